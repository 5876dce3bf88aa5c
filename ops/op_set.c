/* The set of Kiln's own ops, and looking one up. */
#include "infer_util.h"

#include <string.h>

static const kiln_op *const builtin[] = {
#define KILN_OP(name) &kiln__op_##name,
#include "op_list.inc"
#undef KILN_OP
};

kiln_op_set kiln_ops_builtin(void) {
    kiln_op_set set = {builtin, sizeof builtin / sizeof builtin[0]};
    return set;
}

const kiln_op *kiln_op_find(kiln_op_set set, const char *name) {
    if (name == NULL)
        return NULL;
    for (size_t i = 0; i < set.count; i++)
        if (strcmp(set.ops[i]->name, name) == 0)
            return set.ops[i];
    return NULL;
}
