/* The built-in op set: its descriptors are complete, its names can be found. */
#include "infer_util.h"

#include <setjmp.h>
#include <stdarg.h>
#include <string.h>
#include <cmocka.h>

static void test_find(void **state) {
    (void)state;
    kiln_op_set set = kiln_ops_builtin();
    assert_true(set.count == 32);
    for (size_t i = 0; i < set.count; i++)
        assert_ptr_equal(kiln_op_find(set, set.ops[i]->name), set.ops[i]);
    assert_ptr_equal(kiln_op_find(set, "matmul_id"), &kiln__op_matmul_id);
    assert_null(kiln_op_find(set, "matmul_"));
    assert_null(kiln_op_find(set, ""));
    assert_null(kiln_op_find(set, NULL));
}

static void check_attrs(const kiln_op *op) {
    static const uint32_t sizes[] = {
        [KILN_ATTR_BOOL] = 4,      [KILN_ATTR_ENUM] = 4,     [KILN_ATTR_I64] = 8, [KILN_ATTR_F32] = 4,
        [KILN_ATTR_I64_SLOT] = 16, [KILN_ATTR_F32_SLOT] = 8, [KILN_ATTR_OFF] = 4};
    assert_true((op->n_attrs == 0) == (op->attrs_size == 0));
    for (uint32_t i = 0; i < op->n_attrs; i++) {
        const kiln_attr *a = &op->attrs[i];
        assert_true(a->offset + sizes[a->type] <= op->attrs_size);
        assert_true(a->type != KILN_ATTR_ENUM || (a->names != NULL && a->n_names > 0));
        for (uint32_t n = 0; a->type == KILN_ATTR_ENUM && n < a->n_names; n++)
            assert_true(a->names[n] != NULL || n == 0);
        for (uint32_t j = 0; j < i; j++) {
            const kiln_attr *b = &op->attrs[j];
            assert_true(strcmp(a->name, b->name) != 0);
            assert_true(a->offset >= b->offset + sizes[b->type] || b->offset >= a->offset + sizes[a->type]);
        }
    }
}

static void test_descriptors(void **state) {
    (void)state;
    kiln_op_set set = kiln_ops_builtin();
    for (size_t i = 0; i < set.count; i++) {
        const kiln_op *op = set.ops[i];
        assert_true(op->name != NULL && op->text != NULL && op->infer != NULL);
        assert_non_null(op->accesses); /* none of ours conflicts with everything */
        assert_true(op->n_in_min >= 1 && op->n_in_max >= 1 && (op->variadic || op->n_in_min <= op->n_in_max));
        for (uint32_t n = 0; n < op->n_in_max; n++)
            assert_true(op->in_names[n] != NULL);
        for (uint32_t n = 0; n < op->n_out; n++)
            assert_true(op->out_names[n] != NULL);
        for (uint32_t n = 0; n < op->n_inplace; n++)
            assert_true(op->inplace[n].out < op->n_out && op->inplace[n].in < op->n_in_max);
        assert_true(op->n_kernels > 0 && op->kernels[0].cpu == 0); /* runs on any machine */
        check_attrs(op);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_find),
        cmocka_unit_test(test_descriptors),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
