#include "kiln_dtype.h"

#include <string.h>

static const kiln_dtype_info dtypes[KILN_DTYPE_COUNT] = {
#define KILN_DTYPE(NAME, lower, kind, block, bytes, align, text)                                             \
    [KILN_##NAME] = {#lower, KILN_KIND_##kind, block, bytes, align, text},
#include "kiln_dtype_list.h"
#undef KILN_DTYPE
};

const kiln_dtype_info *kiln_dtype_get(kiln_dtype dtype) {
    if ((unsigned)dtype >= KILN_DTYPE_COUNT || dtype == KILN_DTYPE_NONE)
        return NULL;
    return &dtypes[dtype];
}

kiln_dtype kiln_dtype_by_name(const char *name) {
    if (name == NULL)
        return KILN_DTYPE_NONE;
    for (unsigned i = 1; i < KILN_DTYPE_COUNT; i++)
        if (strcmp(dtypes[i].name, name) == 0)
            return (kiln_dtype)i;
    return KILN_DTYPE_NONE;
}

kiln_status kiln_dtype_row_bytes(kiln_dtype dtype, int64_t n, int64_t *bytes) {
    const kiln_dtype_info *info = kiln_dtype_get(dtype);
    if (info == NULL)
        return KILN_ERROR_DTYPE;
    if (n < 0 || n % info->block != 0)
        return KILN_ERROR_SHAPE;
    if (__builtin_mul_overflow(n / info->block, (int64_t)info->bytes, bytes))
        return KILN_ERROR_OVERFLOW;
    return KILN_OK;
}
