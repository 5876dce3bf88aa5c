/* Counting sort of (token, slot) pairs by expert. */
#include "level.h"
#include "matmul_tiles.h"

#include <string.h>

kiln_status KILN_LEVEL_FN(expert_map)(const kiln_args *args, kiln_tile *tile) {
    (void)tile; /* one tile */
    const kiln_operand *ids = &args->in[0];
    int32_t *offsets = (int32_t *)(void *)args->out[0].data, *entries = (int32_t *)(void *)args->out[1].data;
    int64_t experts = args->out[0].ne[3] - 2, slots = ids->ne[3], pairs = ids->ne[2] * slots;
    memset(offsets, 0, (size_t)(experts + 2) * sizeof *offsets);
    /* First offsets[e] is the place of e's next pair; in the end it has moved to where e + 1 begins. */
    for (int pass = 0; pass < 2; pass++) {
        for (int64_t i = 0; i < pairs; i++) {
            int64_t id =
                kiln__index_at(ids->dtype, ids->data + i / slots * ids->nb[2] + i % slots * ids->nb[3]);
            int64_t e = id >= 0 && id < experts ? id : experts;
            if (pass == 0)
                offsets[e + 1]++;
            else
                entries[offsets[e]++] = (int32_t)i;
        }
        for (int64_t e = 0; pass == 0 && e <= experts; e++)
            offsets[e + 1] += offsets[e];
    }
    memmove(offsets + 1, offsets, (size_t)(experts + 1) * sizeof *offsets);
    offsets[0] = 0;
    return KILN_OK;
}
