#include "operands.h"
#include "rows.h"

#include <string.h>

kiln_status KILN_LEVEL_FN(get_rows)(const kiln_args *args, kiln_tile *tile) {
    const kiln_operand *table = &args->in[0], *ids = &args->in[1], *y = &args->out[0];
    int64_t n = table->ne[3], limit = table->ne[2], rows = kiln__rows(y), per = kiln__rows_per_tile(n);
    for (int64_t r = tile->first * per; r < tile->last * per && r < rows; r++) {
        /* ids has one axis fewer than y: its axes 1–3 are y's axes 0–2. */
        int64_t i2 = r % y->ne[2], q = r / y->ne[2], i1 = q % y->ne[1], i0 = q / y->ne[1];
        int64_t id =
            kiln__index_at(ids->dtype, ids->data + i0 * ids->nb[1] + i1 * ids->nb[2] + i2 * ids->nb[3]);
        float *out = (float *)(void *)kiln__row(y, r);
        if (id >= 0 && id < limit) {
            KILN__FNS[table->dtype].to_f32(table->data + id * table->nb[2], out, n);
        } else {
            memset(out, 0, (size_t)n * sizeof *out);
            kiln_tile_bad_index(tile, r, id, limit);
        }
    }
    return KILN_OK;
}
