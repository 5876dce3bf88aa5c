/* Building graphs: views and what they cover, every refusal with its exact message,
 * and that a refused call changes nothing. */
#include "kiln.h"
#include "check.h"
#include "graph.h"

static kiln_graph *g;

static int setup(void **unused) {
    (void)unused;
    CHECK_OK(kiln_graph_create(NULL, &g, error));
    return 0;
}

static int teardown(void **unused) {
    (void)unused;
    kiln_graph_destroy(g);
    return 0;
}

/* The call must leave this error in the graph; the graph is then started anew. */
#define REFUSED(call, refusal, text)                                                                         \
    do {                                                                                                     \
        size_t tensors_ = g->tensors.count, nodes_ = g->nodes.count, storages_ = g->storages.count;          \
        (void)(call);                                                                                        \
        CHECK_FAILS(kiln_graph_check(g, error), refusal, text);                                              \
        assert_int_equal(g->tensors.count, tensors_);                                                        \
        assert_int_equal(g->nodes.count, nodes_);                                                            \
        assert_int_equal(g->storages.count, storages_);                                                      \
        g->error.status = KILN_OK;                                                                           \
    } while (0)

static kiln_desc desc_of(kiln_tensor t) {
    kiln_tensor_info info;
    assert_int_equal(kiln_tensor_get(g, t, &info), KILN_OK);
    return info.desc;
}

static void assert_strides(kiln_tensor t, uint32_t ndim, const int64_t *strides) {
    CHECK_OK(kiln_graph_check(g, error));
    kiln_desc d = desc_of(t);
    assert_int_equal(d.ndim, ndim);
    for (uint32_t i = 0; i < ndim; i++)
        assert_int_equal(d.strides[i], strides[i]);
}

static void test_leaves(void **unused) {
    (void)unused;
    kiln_graph_reset(g);
    kiln_slot t = kiln_slot_i64(g, "t", 0, 10), f = kiln_slot_f32(g, "f", 1),
              neg = kiln_slot_i64(g, "neg", -1, 4);
    kiln_tensor q = kiln_weight(g, "q", KILN_Q4_0, KILN_SHAPE(kiln_n(6), kiln_n(64)));
    assert_strides(q, 2, (int64_t[]){36, 18});
    assert_strides(kiln_input(g, "x", KILN_F32, KILN_SHAPE(kiln_sym(t), kiln_n(3), kiln_n(5))), 3,
                   (int64_t[]){60, 20, 4});
    REFUSED(kiln_slot_i64(g, "t", 0, 1), KILN_ERROR_ARGUMENT, "slot name 't' is taken already");
    REFUSED(kiln_slot_i64(g, "", 0, 1), KILN_ERROR_ARGUMENT,
            "a slot's name has 0 bytes; 1 to 127 are allowed");
    REFUSED(kiln_slot_i64(g, "s", 2, 1), KILN_ERROR_ARGUMENT, "slot 's': min 2 is above max 1");
    REFUSED(kiln_slot_f32(g, "\xff", 0), KILN_ERROR_ARGUMENT, "a slot's name is not valid UTF-8 at byte 0");
    REFUSED(kiln_input(g, "x", KILN_F32, KILN_SHAPE(kiln_n(1))), KILN_ERROR_ARGUMENT,
            "tensor name 'x' is taken already");
    REFUSED(
        kiln_weight(g, "w", KILN_Q4_0, KILN_SHAPE(kiln_n(2), kiln_n(48))), KILN_ERROR_SHAPE,
        "weight 'w': the innermost dimension is 48, which is no multiple of the 32 values in a q4_0 block");
    REFUSED(kiln_weight(g, "w", KILN_F32, KILN_SHAPE(kiln_n(INT64_C(1) << 40), kiln_n(INT64_C(1) << 40))),
            KILN_ERROR_OVERFLOW,
            "weight 'w': f32 [1099511627776, 1099511627776] at its maximum does not fit 63 bits");
    REFUSED(kiln_weight(g, "w", KILN_F32,
                        KILN_SHAPE(kiln_n(0), kiln_n(INT64_C(1) << 40), kiln_n(INT64_C(1) << 40))),
            KILN_ERROR_OVERFLOW,
            "weight 'w': f32 [0, 1099511627776, 1099511627776] at its maximum does not fit 63 bits");
    REFUSED(kiln_input(g, "i", KILN_F32, KILN_SHAPE(kiln_sym_times(t, INT64_MAX / 2))), KILN_ERROR_OVERFLOW,
            "input 'i': dimension 0: 4611686018427387903 times the maximum of 't' does not fit 63 bits");
    REFUSED(kiln_input(g, "i", KILN_F32, KILN_SHAPE(kiln_sym(f))), KILN_ERROR_ARGUMENT,
            "input 'i': dimension 0 follows slot 2, which is not an integer slot with min >= 0");
    REFUSED(kiln_input(g, "i", KILN_F32, KILN_SHAPE(kiln_sym(neg))), KILN_ERROR_ARGUMENT,
            "input 'i': dimension 0 follows slot 3, which is not an integer slot with min >= 0");
    REFUSED(kiln_input(g, "i", KILN_F32, KILN_SHAPE(kiln_n(-1))), KILN_ERROR_SHAPE,
            "input 'i': dimension 0 is -1; it must not be negative");
    kiln_dim five[5] = {{1, 0}, {1, 0}, {1, 0}, {1, 0}, {1, 0}};
    REFUSED(kiln_input(g, "i", KILN_F32, 5, five), KILN_ERROR_SHAPE, "i: 5 dimensions; 1 to 4 are allowed");
    REFUSED(kiln_input(g, "i", KILN_F32, 2, NULL), KILN_ERROR_ARGUMENT, "i: 2 dimensions, and dims is NULL");
    REFUSED(kiln_reshape(g, q, 1, NULL), KILN_ERROR_ARGUMENT, "kiln_reshape: 1 dimensions, and dims is NULL");
    REFUSED(kiln_broadcast(g, q, 2, NULL), KILN_ERROR_ARGUMENT,
            "kiln_broadcast: 2 dimensions, and dims is NULL");
    REFUSED(kiln_permute(g, q, NULL), KILN_ERROR_ARGUMENT, "kiln_permute: perm is NULL");
    REFUSED(kiln_zeros(g, 3, NULL), KILN_ERROR_ARGUMENT, "kiln_zeros: 3 dimensions, and dims is NULL");
    REFUSED(kiln_input(g, "i", (kiln_dtype)99, 1, five), KILN_ERROR_DTYPE, "input 'i': unknown dtype 99");
}

static void test_tensor_at(void **unused) {
    (void)unused;
    kiln_graph_reset(g);
    kiln_storage file = kiln_storage_add(g, KILN_STORAGE_WEIGHT, "file", 1000);
    kiln_dim d[] = {kiln_n(4), kiln_n(8)};
    assert_strides(kiln_tensor_at(g, file, 100, KILN_F32, 2, d, NULL), 2, (int64_t[]){32, 4});
    assert_strides(kiln_tensor_at(g, file, 0, KILN_F32, 2, d, (int64_t[]){64, 8}), 2, (int64_t[]){64, 8});
    kiln_tensor_at(g, file, 1000 - 128, KILN_F32, 2, d, NULL); /* to the last byte */
    CHECK_OK(kiln_graph_check(g, error));
    REFUSED(kiln_tensor_at(g, file, 1000 - 124, KILN_F32, 2, d, NULL), KILN_ERROR_SHAPE,
            "a tensor in storage 'file': 128 bytes at offset 876 do not lie within its 1000 bytes");
    REFUSED(kiln_tensor_at(g, file, 2, KILN_F32, 2, d, NULL), KILN_ERROR_SHAPE,
            "a tensor in storage 'file': offset 2; f32 needs a multiple of 4, not negative");
    REFUSED(kiln_tensor_at(g, file, -4, KILN_F32, 2, d, NULL), KILN_ERROR_SHAPE,
            "a tensor in storage 'file': offset -4; f32 needs a multiple of 4, not negative");
    REFUSED(kiln_tensor_at(g, file, 0, KILN_F32, 2, d, (int64_t[]){30, 4}), KILN_ERROR_SHAPE,
            "a tensor: stride 0 is 30 bytes; f32 needs a multiple of 4, not negative");
    REFUSED(kiln_tensor_at(g, file, 0, KILN_Q8_0, KILN_SHAPE(kiln_n(64)), (int64_t[]){36}), KILN_ERROR_SHAPE,
            "a tensor: the blocks of a q8_0 row must be adjacent (stride 34, got 36)");
    REFUSED(kiln_tensor_at(g, (kiln_storage){77, file.graph}, 0, KILN_F32, 2, d, NULL), KILN_ERROR_ARGUMENT,
            "kiln_tensor_at: unknown storage");
    REFUSED((kiln_storage_data(g, file, d, 999, 0), 0), KILN_ERROR_BINDING,
            "storage 'file' needs 1000 bytes, got 999");
    REFUSED((kiln_storage_data(g, file, NULL, 1000, 0), 0), KILN_ERROR_ARGUMENT,
            "storage 'file' needs 1000 bytes, and data is NULL");
    kiln_storage_data(g, kiln_storage_add(g, KILN_STORAGE_INPUT, "empty", 0), NULL, 0, 0);
    CHECK_OK(kiln_graph_check(g, error));
    kiln_storage arena = kiln_storage_add(g, KILN_STORAGE_ARENA, "a", 8);
    REFUSED((kiln_storage_data(g, arena, d, 8, 0), 0), KILN_ERROR_ARGUMENT,
            "storage 'a' is arena: its bytes cannot be given here");
    kiln_storage state = kiln_storage_add(g, KILN_STORAGE_STATE, "s", 8);
    REFUSED((kiln_storage_data(g, state, d, 8, 0), 0), KILN_ERROR_ARGUMENT,
            "storage 's' is state: its bytes cannot be given here; bind a kiln_state to the session");

    /* Bytes that are const: those of weights and inputs, not of what nodes write. */
    static const char constant[1000] = {1};
    kiln_storage_data_const(g, file, constant, sizeof constant, 0);
    kiln_storage_data_const(g, kiln_storage_add(g, KILN_STORAGE_INPUT, "const_input", 8), constant, 8, 0);
    CHECK_OK(kiln_graph_check(g, error));
    kiln_storage output = kiln_storage_add(g, KILN_STORAGE_OUTPUT, "const_output", 8);
    REFUSED((kiln_storage_data_const(g, output, constant, 8, 0), 0), KILN_ERROR_ARGUMENT,
            "storage 'const_output' is output: nodes write it, so its bytes cannot be const; use "
            "kiln_storage_data");
    REFUSED((kiln_storage_data_const(g, file, constant, 999, 0), 0), KILN_ERROR_BINDING,
            "storage 'file' needs 1000 bytes, got 999");
    REFUSED((kiln_storage_data_const(g, (kiln_storage){999, file.graph}, constant, 8, 0), 0),
            KILN_ERROR_ARGUMENT, "kiln_storage_data_const: unknown storage");
}

/* Slots that were not found or are another graph's are refused wherever they are used. */
static void test_foreign_slots(void **unused) {
    (void)unused;
    kiln_graph *other;
    kiln_graph_reset(g);
    CHECK_OK(kiln_graph_create(NULL, &other, error));
    kiln_slot_i64(other, "first", 0, 3);
    kiln_slot foreign = kiln_slot_i64(other, "n", 0, 8), lost = kiln_slot_find(g, "typo");
    kiln_slot own = kiln_slot_i64(g, "a", 0, 8), f = kiln_slot_f32(g, "f", 1);
    kiln_slot_i64(g, "b", 0, 8);
    kiln_tensor x = kiln_input(g, "x", KILN_F32, KILN_SHAPE(kiln_sym(own), kiln_n(4)));
    kiln_desc desc;
    kiln_tensor_info info;
    CHECK_OK(kiln_tensor_get(g, x, &info) == KILN_OK ? kiln_graph_check(g, error) : KILN_ERROR_ARGUMENT);
    desc = info.desc;
    assert_int_equal(desc.dims[0].slot, own.id); /* what Kiln gives are plain ids, and it takes them, too */
    kiln_input(g, "again", KILN_F32, 2, desc.dims);
    kiln_scale(g, x, (kiln_scale_attrs){kiln_f32_of(f), kiln_f32_const(0)});
    CHECK_OK(kiln_graph_check(g, error));
    const kiln_slot bad[] = {foreign, lost};
    for (int i = 0; i < 2; i++) {
        REFUSED(kiln_input(g, "y", KILN_F32, KILN_SHAPE(kiln_n(2), kiln_sym(bad[i]))), KILN_ERROR_ARGUMENT,
                "y: dimension 1 follows a slot that is not of this graph, or was not found");
        REFUSED(kiln_slice(g, x, 0, 0, kiln_sym(bad[i])), KILN_ERROR_ARGUMENT,
                "kiln_slice: the length follows a slot that is not of this graph, was not found, or holds a "
                "float");
        REFUSED(kiln_reshape(g, x, KILN_SHAPE(kiln_sym_times(bad[i], 4))), KILN_ERROR_ARGUMENT,
                "kiln_reshape: dimension 0 follows a slot that is not of this graph, or was not found");
        REFUSED(kiln_scale(g, x, (kiln_scale_attrs){kiln_f32_of(bad[i]), kiln_f32_const(0)}),
                KILN_ERROR_ARGUMENT,
                "node 'scale.1' (scale): attribute scale follows a slot that is not of this graph, or was "
                "not found");
    }
    REFUSED(kiln_input(g, "y", KILN_F32, 2, NULL), KILN_ERROR_ARGUMENT, "y: 2 dimensions, and dims is NULL");
    kiln_graph_destroy(other);
}

/* Parts of nothing lie anywhere. */
static void test_empty_slices(void **unused) {
    (void)unused;
    kiln_graph_reset(g);
    kiln_slot t = kiln_slot_i64(g, "t", 0, 0);
    kiln_tensor x = kiln_input(g, "x", KILN_F32, KILN_SHAPE(kiln_n(0), kiln_n(64)));
    kiln_slice(g, x, 1, 16, kiln_n(16));
    x = kiln_input(g, "y", KILN_F32, KILN_SHAPE(kiln_sym(t), kiln_n(64)));
    kiln_slice(g, x, 1, 32, kiln_n(32));
    CHECK_OK(kiln_graph_check(g, error));
}

static void test_slices(void **unused) {
    (void)unused;
    kiln_graph_reset(g);
    kiln_slot t = kiln_slot_i64(g, "t", 2, 10), n = kiln_slot_i64(g, "n", 0, 12);
    kiln_tensor x = kiln_input(g, "x", KILN_F32, KILN_SHAPE(kiln_n(12), kiln_n(8)));
    kiln_tensor s = kiln_slice(g, x, 0, 3, kiln_n(4));
    assert_strides(s, 2, (int64_t[]){32, 4});
    assert_int_equal(g->tensors.items[s.id].offset, 96);
    s = kiln_slice(g, x, -1, 2, kiln_n(3));
    assert_int_equal(g->tensors.items[s.id].offset, 8);
    kiln_slice(g, x, 0, 0, kiln_sym(n)); /* a symbol whose maximum fits */
    CHECK_OK(kiln_graph_check(g, error));
    REFUSED(kiln_slice(g, x, 0, 1, kiln_sym(n)), KILN_ERROR_SHAPE,
            "kiln_slice: n elements from 1 on of axis 0 of [12, 8]; 12 are there for certain");
    REFUSED(kiln_slice(g, x, 0, 10, kiln_n(3)), KILN_ERROR_SHAPE,
            "kiln_slice: 3 elements from 10 on of axis 0 of [12, 8]; 12 are there for certain");
    REFUSED(kiln_slice(g, x, 2, 0, kiln_n(1)), KILN_ERROR_SHAPE,
            "kiln_slice: axis 2 of a tensor with 2 dimensions");
    kiln_tensor y = kiln_input(g, "y", KILN_F32, KILN_SHAPE(kiln_sym(t), kiln_n(8)));
    kiln_slice(g, y, 0, 0, kiln_n(2)); /* never fewer than two */
    kiln_slice(g, y, 0, 0, kiln_sym(t));
    CHECK_OK(kiln_graph_check(g, error));
    REFUSED(kiln_slice(g, y, 0, 0, kiln_n(3)), KILN_ERROR_SHAPE,
            "kiln_slice: 3 elements from 0 on of axis 0 of [t, 8]; 2 are there for certain");
    REFUSED(kiln_slice(g, x, 0, INT64_MAX, kiln_n(INT64_MAX)), KILN_ERROR_SHAPE,
            "kiln_slice: 9223372036854775807 elements from 9223372036854775807 on of axis 0 of [12, 8]; 12 "
            "are there for "
            "certain");
    kiln_tensor q = kiln_weight(g, "q", KILN_Q8_0, KILN_SHAPE(kiln_n(2), kiln_n(96)));
    s = kiln_slice(g, q, 1, 32, kiln_n(64));
    assert_int_equal(g->tensors.items[s.id].offset, 34);
    REFUSED(kiln_slice(g, q, 1, 16, kiln_n(32)), KILN_ERROR_SHAPE,
            "kiln_slice: start 16 is no multiple of the 32 values in a q8_0 block");
    REFUSED(kiln_slice(g, q, 1, 32, kiln_n(33)), KILN_ERROR_SHAPE,
            "a tensor: the innermost dimension is 33, which is no multiple of the 32 values in a q8_0 block");
}

static void test_reshapes(void **unused) {
    (void)unused;
    kiln_graph_reset(g);
    kiln_slot t = kiln_slot_i64(g, "t", 0, 10);
    kiln_dim T = kiln_sym(t);
    kiln_tensor x = kiln_input(g, "x", KILN_F32, KILN_SHAPE(T, kiln_n(6), kiln_n(4)));
    assert_strides(kiln_reshape(g, x, KILN_SHAPE(T, kiln_n(24))), 2, (int64_t[]){96, 4});
    assert_strides(kiln_reshape(g, x, KILN_SHAPE(kiln_sym_times(t, 6), kiln_n(4))), 2, (int64_t[]){16, 4});
    assert_strides(kiln_reshape(g, x, KILN_SHAPE(T, kiln_n(2), kiln_n(3), kiln_n(4))), 4,
                   (int64_t[]){96, 48, 16, 4});
    assert_strides(kiln_reshape(g, x, KILN_SHAPE(T, kiln_n(1), kiln_n(24))), 3, (int64_t[]){96, 96, 4});
    assert_strides(kiln_reshape(g, x, KILN_SHAPE(kiln_sym_times(t, 24))), 1, (int64_t[]){4});
    kiln_tensor p = kiln_permute(g, x, (uint32_t[]){1, 0, 2});
    assert_strides(p, 3, (int64_t[]){16, 96, 4});
    assert_strides(kiln_reshape(g, p, KILN_SHAPE(kiln_n(6), T, kiln_n(2), kiln_n(2))), 4,
                   (int64_t[]){16, 96, 8, 4});
    REFUSED(kiln_reshape(g, p, KILN_SHAPE(kiln_sym_times(t, 6), kiln_n(4))), KILN_ERROR_SHAPE,
            "kiln_reshape: [6, t, 4] to [6*t, 4]: the counts differ, or axes to be merged are not adjacent "
            "in memory "
            "(kiln_copy makes a dense tensor)");
    kiln_tensor b = kiln_input(g, "b", KILN_F32, KILN_SHAPE(kiln_n(2), T, kiln_n(4)));
    REFUSED(kiln_reshape(g, b, KILN_SHAPE(kiln_sym_times(t, 2), kiln_n(4))), KILN_ERROR_SHAPE,
            "kiln_reshape: [2, t, 4] to [2*t, 4]: the counts differ, or axes to be merged are not adjacent "
            "in memory "
            "(kiln_copy makes a dense tensor)");
    kiln_tensor q = kiln_weight(g, "q", KILN_Q4_K, KILN_SHAPE(kiln_n(4), kiln_n(512)));
    assert_strides(kiln_reshape(g, q, KILN_SHAPE(kiln_n(8), kiln_n(256))), 2, (int64_t[]){144, 144});
    assert_strides(kiln_reshape(g, q, KILN_SHAPE(kiln_n(2048))), 1, (int64_t[]){144});
    REFUSED(kiln_reshape(g, q, KILN_SHAPE(kiln_n(16), kiln_n(128))), KILN_ERROR_SHAPE,
            "kiln_reshape: the innermost dimension is 128, which is no multiple of the 256 values in a q4_K "
            "block");
    /* Empty is empty. */
    kiln_tensor none = kiln_input(g, "none", KILN_F32, KILN_SHAPE(kiln_n(0), kiln_n(4)));
    kiln_reshape(g, none, KILN_SHAPE(kiln_n(7), kiln_n(0)));
    CHECK_OK(kiln_graph_check(g, error));
    REFUSED(kiln_reshape(g, x, KILN_SHAPE(T, kiln_n(25))), KILN_ERROR_SHAPE,
            "kiln_reshape: [t, 6, 4] to [t, 25]: the counts differ, or axes to be merged are not adjacent in "
            "memory "
            "(kiln_copy makes a dense tensor)");
}

static void test_other_views(void **unused) {
    (void)unused;
    kiln_graph_reset(g);
    kiln_tensor x = kiln_input(g, "x", KILN_F32, KILN_SHAPE(kiln_n(6), kiln_n(4)));
    assert_strides(kiln_transpose(g, x, 0, -1), 2, (int64_t[]){4, 16});
    REFUSED(kiln_permute(g, x, (uint32_t[]){1, 1}), KILN_ERROR_SHAPE,
            "kiln_permute: entry 1 is 1; the entries must be 0 to 1, each once");
    kiln_tensor row = kiln_input(g, "row", KILN_F32, KILN_SHAPE(kiln_n(1), kiln_n(4)));
    kiln_tensor wide = kiln_broadcast(g, row, KILN_SHAPE(kiln_n(3), kiln_n(6), kiln_n(4)));
    assert_strides(wide, 3, (int64_t[]){0, 0, 4});
    bool exact;
    kiln_box box = kiln__tensor_box(g, &g->tensors.items[wide.id], &exact);
    assert_true(exact && box.length == 16 && box.count[0] == 1); /* the same 16 bytes, however often */
    REFUSED(kiln_broadcast(g, row, KILN_SHAPE(kiln_n(6), kiln_n(5))), KILN_ERROR_SHAPE,
            "kiln_broadcast: [1, 4] to [6, 5]: counted from the innermost, axes must be equal or 1");
    kiln_tensor q = kiln_weight(g, "q", KILN_Q8_0, KILN_SHAPE(kiln_n(64), kiln_n(64)));
    REFUSED(kiln_transpose(g, q, 0, 1), KILN_ERROR_SHAPE,
            "kiln_permute: the innermost axis of q8_0 cannot move, its blocks lie along it");
    REFUSED(kiln_transpose(g, (kiln_tensor){3, 12345}, 0, 1), KILN_ERROR_ARGUMENT,
            "kiln_transpose: unknown tensor (id 3)");
    kiln_tensor cut = kiln_slice(g, x, 1, 1, kiln_n(2));
    box = kiln__tensor_box(g, &g->tensors.items[cut.id], &exact);
    assert_true(exact && box.offset == 4 && box.length == 8 && box.count[0] == 6 && box.stride[0] == 16);
}

static void test_nodes(void **unused) {
    (void)unused;
    kiln_graph_reset(g);
    kiln_tensor x = kiln_input(g, "x", KILN_F32, KILN_SHAPE(kiln_n(6), kiln_n(4)));
    kiln_tensor w = kiln_weight(g, "w", KILN_F32, KILN_SHAPE(kiln_n(6), kiln_n(4)));
    kiln_tensor none = {0, 0};
    REFUSED(kiln_zero(g, w), KILN_ERROR_ARGUMENT,
            "node 'zero.0' (zero) would write into 'w', which is of kind weight; copy it first (kiln_copy) "
            "or make it a state");
    REFUSED(kiln_accumulate(g, x, w, none), KILN_ERROR_ARGUMENT,
            "node 'accumulate.0' (accumulate) would write into 'x', which is of kind input; copy it first "
            "(kiln_copy) or make "
            "it a state");
    kiln_tensor row = kiln_slice(g, kiln_copy(g, x, KILN_F32), 0, 0, kiln_n(1));
    kiln_tensor wide = kiln_broadcast(g, row, KILN_SHAPE(kiln_n(6), kiln_n(4)));
    REFUSED(kiln_zero(g, wide), KILN_ERROR_ARGUMENT,
            "node 'zero.1' (zero) would write into a view whose elements share bytes (broadcast, or strides "
            "that cross)");
}

static void test_nodes_operands(void **unused) {
    (void)unused;
    kiln_graph_reset(g);
    kiln_tensor x = kiln_input(g, "x", KILN_F32, KILN_SHAPE(kiln_n(6), kiln_n(4)));
    kiln_tensor out[8], one[2] = {x, {0, 0}};
    const kiln_op *add = kiln_op_find(kiln_ops_builtin(), "add");
    REFUSED(kiln_node_add(g, add, one, 1, NULL, out), KILN_ERROR_ARGUMENT,
            "node 'add.0' (add): 1 operands; it takes 2 to 2");
    REFUSED(kiln_node_add(g, add, one, 2, NULL, out), KILN_ERROR_ARGUMENT,
            "node 'add.0' (add): operand b is missing");
    REFUSED(kiln_node_add(g, NULL, one, 1, NULL, out), KILN_ERROR_ARGUMENT, "kiln_node_add: the op is NULL");
    REFUSED(kiln_concat(g, NULL, 2, 0), KILN_ERROR_ARGUMENT, "kiln_node_add: the array of inputs is NULL");
    REFUSED(kiln_matmul_id_split(g, NULL, 0, x, x), KILN_ERROR_ARGUMENT,
            "node 'matmul_id.0' (matmul_id): 5 operands; it takes 6 to 1024");
    kiln_tensor many[1100];
    for (int i = 0; i < 1100; i++)
        many[i] = x;
    REFUSED(kiln_concat(g, many, 1100, 0), KILN_ERROR_LIMIT,
            "node 'concat.0' (concat): 1100 operands; at most 1024 are allowed");
    REFUSED(kiln_matmul_id_split(g, many, 1020, x, x), KILN_ERROR_LIMIT,
            "matmul_id: 1020 separate experts; at most 1019 fit in one node (stack them in one tensor "
            "[E, N, K])");
    kiln_op large = *add;
    large.attrs_size = 257;
    REFUSED(kiln_node_add(g, &large, many, 2, NULL, out), KILN_ERROR_LIMIT,
            "node 'add.0' (add): 257 bytes of attributes; at most 256 are allowed");
    large.attrs_size = 0;
    large.n_out = 9;
    REFUSED(kiln_node_add(g, &large, many, 2, NULL, (kiln_tensor[9]){{0, 0}}), KILN_ERROR_LIMIT,
            "node 'add.0' (add): 9 outputs; at most 8 are allowed");
    REFUSED(kiln_add(g, x, (kiln_tensor){1, 4711}), KILN_ERROR_ARGUMENT,
            "node 'add.0' (add): operand 1 is a tensor of another graph, or of this one before its reset");
    REFUSED(kiln_softcap(g, x, -1.0f), KILN_ERROR_ARGUMENT,
            "node 'softcap.0' (softcap): attribute cap is -1; it must be 1.175494351e-38 to 3.402823466e+38");
    kiln_tensor y = kiln_add(g, x, x);
    kiln_name(g, y, "sum.%d", 7);
    assert_true(kiln_tensor_find(g, "sum.7").id == y.id);
    REFUSED((kiln_name(g, x, "sum.%d", 7), 0), KILN_ERROR_ARGUMENT, "tensor name 'sum.7' is taken already");
    REFUSED(kiln_output(g, x, "o"), KILN_ERROR_ARGUMENT,
            "kiln_output 'o': its bytes are of kind input ('x'); copy it first (kiln_copy)");
    kiln_tensor unnamed = kiln_silu(g, y);
    REFUSED(kiln_output(g, unnamed, "sum.7"), KILN_ERROR_ARGUMENT, "tensor name 'sum.7' is taken already");
    assert_int_equal(g->storages.items[kiln_storage_of(g, unnamed).id].kind, KILN_STORAGE_ARENA);
    assert_int_equal(kiln_storage_find(g, "sum.7").id, 0);
    kiln_output(g, y, "y");
    CHECK_OK(kiln_graph_check(g, error));
    assert_int_equal(kiln_graph_node_count(g), 2);
    REFUSED(kiln_output(g, y, "again"), KILN_ERROR_ARGUMENT,
            "kiln_output 'again': its bytes are of kind output ('y'); copy it first (kiln_copy)");
    kiln_tensor ids = kiln_input(g, "ids", KILN_I32, KILN_SHAPE(kiln_n(6), kiln_n(2)));
    assert_true(kiln_tensor_valid(kiln_expert_map(g, ids, 4, NULL)));
    /* The first error stays; later calls do nothing. */
    kiln_output(g, x, "o");
    kiln_tensor later = kiln_add(g, x, x);
    assert_false(kiln_tensor_valid(later));
    CHECK_FAILS(kiln_graph_check(g, error), KILN_ERROR_ARGUMENT,
                "kiln_output 'o': its bytes are of kind input ('x'); copy it first (kiln_copy)");
    kiln_graph_reset(g);
    CHECK_OK(kiln_graph_check(g, error));
    REFUSED(kiln_silu(g, x), KILN_ERROR_ARGUMENT,
            "node 'silu.0' (silu): operand 0 is a tensor of another graph, or of this one before its reset");
}

/* Where names stand in the table differs from graph to graph, so that no file is slow to load everywhere;
 * what is found, in the graph and in a copy of it, does not. */
static void test_name_places(void **unused) {
    (void)unused;
    enum { N = 200 };
    kiln_graph *other, *copy;
    char name[16];
    kiln_graph_reset(g);
    CHECK_OK(kiln_graph_create(NULL, &other, error));
    for (uint32_t i = 0; i < N; i++) {
        snprintf(name, sizeof name, "slot %u", i);
        kiln_slot_i64(g, name, 0, 1);
        kiln_slot_i64(other, name, 0, 1);
    }
    assert_int_equal(g->names.capacity, other->names.capacity);
    size_t same = 0;
    for (size_t i = 0; i < g->names.capacity; i++)
        same += g->names.items[i].id != 0 && g->names.items[i].id == other->names.items[i].id;
    assert_true(same < N / 2);
    CHECK_OK(kiln__graph_clone(other, NULL, &copy, error));
    for (uint32_t i = 0; i < N; i++) {
        snprintf(name, sizeof name, "slot %u", i);
        assert_int_equal(kiln_slot_find(g, name).id, i + 1);
        assert_int_equal(kiln_slot_find(other, name).id, i + 1);
        assert_int_equal(kiln_slot_find(copy, name).id, i + 1);
    }
    kiln_graph_destroy(other);
    kiln_graph_destroy(copy);
}

/* ---- what infer said is remembered ---------------------------------------------------------------------- */

typedef struct repeat_attrs {
    int64_t times;
} repeat_attrs;

static int asked;

/* y has `times` as many elements as x, and twice as many when there is a second operand; 13 times is refused. */
static kiln_status repeat_infer(kiln_infer *infer) {
    const repeat_attrs *a = infer->attrs;
    asked++;
    if (a->times == 13)
        return kiln_infer_fail(infer, KILN_ERROR_ARGUMENT, "13 times");
    infer->out[0] = *infer->in[0];
    infer->out[0].dims[0].n *= a->times * (infer->n_in == 2 && infer->in[1] != NULL ? 2 : 1);
    return KILN_OK;
}

static const kiln_attr repeat_attr[] = {{.name = "times", .type = KILN_ATTR_I64, .offset = 0, .preset = 2}};
static const char *const repeat_in[] = {"x", "twice"}, *const repeat_out[] = {"y"};
static const kiln_op repeat_op = {.name = "repeat",
                                  .in_names = repeat_in,
                                  .n_in_min = 1,
                                  .n_in_max = 2,
                                  .out_names = repeat_out,
                                  .n_out = 1,
                                  .attrs = repeat_attr,
                                  .n_attrs = 1,
                                  .attrs_size = sizeof(repeat_attrs),
                                  .infer = repeat_infer};

static int64_t repeated(const kiln_op *op, kiln_tensor x, kiln_tensor twice, int64_t times) {
    kiln_tensor y, in[2] = {x, twice};
    CHECK_OK(kiln_node_add(g, op, in, 2, &(repeat_attrs){times}, &y));
    const kiln__tensor *t = &g->tensors.items[y.id];
    assert_int_equal(t->bytes, 4 * desc_of(y).dims[0].n);
    assert_int_equal(g->storages.items[t->storage].size, t->bytes);
    return desc_of(y).dims[0].n;
}

static void test_infer_once(void **unused) {
    (void)unused;
    const kiln_op other = repeat_op;
    const kiln_tensor none = {0, 0};
    asked = 0;
    for (int round = 1; round <= 2; round++) { /* a graph that was reset asks anew: its slots may be others */
        kiln_graph_reset(g);
        kiln_slot n = kiln_slot_i64(g, "n", 0, 7 * round);
        kiln_tensor a = kiln_input(g, "a", KILN_F32, KILN_SHAPE(kiln_n(5))),
                    b = kiln_input(g, "b", KILN_F32, KILN_SHAPE(kiln_n(5))),
                    c = kiln_input(g, "c", KILN_F32, KILN_SHAPE(kiln_n(6)));
        assert_int_equal(repeated(&repeat_op, a, none, 3), 15);
        assert_int_equal(asked, 7 * round - 6);
        assert_int_equal(repeated(&repeat_op, a, none, 3), 15);
        assert_int_equal(repeated(&repeat_op, b, none, 3), 15);
        assert_int_equal(asked, 7 * round - 6);
        assert_int_equal(repeated(&repeat_op, c, none, 3), 18); /* another shape */
        assert_int_equal(repeated(&repeat_op, a, none, 4), 20); /* another attribute */
        assert_int_equal(repeated(&repeat_op, a, c, 3), 30);    /* another operand */
        assert_int_equal(repeated(&other, a, none, 3), 15);     /* another op */
        assert_int_equal(asked, 7 * round - 2);
        kiln_tensor y;
        for (int i = 0; i < 2; i++) /* a refusal is not remembered */
            REFUSED(kiln_node_add(g, &repeat_op, &a, 1, &(repeat_attrs){13}, &y), KILN_ERROR_ARGUMENT,
                    "node 'repeat.7' (repeat): 13 times");
        assert_int_equal(asked, 7 * round);
        kiln_tensor s = kiln_input(g, "s", KILN_F32, KILN_SHAPE(kiln_sym(n)));
        CHECK_OK(kiln_node_add(g, &repeat_op, &s, 1, &(repeat_attrs){3}, &y));
        assert_int_equal(g->tensors.items[y.id].bytes, 4 * 3 * 7 * round);
        asked--;
    }
    /* Many more than are remembered, so that they meet in the same places. */
    kiln_op ops[100];
    kiln_graph_reset(g);
    asked = 0;
    for (int i = 0; i < 100; i++) {
        char name[16];
        snprintf(name, sizeof name, "x%d", i);
        kiln_tensor x = kiln_input(g, name, KILN_F32, KILN_SHAPE(kiln_n(i + 1)));
        assert_int_equal(repeated(&repeat_op, x, x, 3), 6 * (i + 1));
        assert_int_equal(repeated(&repeat_op, x, none, 3), 3 * (i + 1));
        ops[i] = repeat_op;
        assert_int_equal(repeated(&ops[i], x, none, 2), 2 * (i + 1));
    }
    assert_int_equal(asked, 300);
    kiln_tensor x = kiln_tensor_find(g, "x0");
    for (int i = 0; i < 100; i++)
        assert_int_equal(repeated(&ops[i], x, none, 2), 2);
    assert_true(asked >= 399);
    kiln_graph_reset(g); /* the ops end here */
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_leaves),         cmocka_unit_test(test_tensor_at),
        cmocka_unit_test(test_slices),         cmocka_unit_test(test_foreign_slots),
        cmocka_unit_test(test_empty_slices),   cmocka_unit_test(test_reshapes),
        cmocka_unit_test(test_other_views),    cmocka_unit_test(test_nodes),
        cmocka_unit_test(test_nodes_operands), cmocka_unit_test(test_name_places),
        cmocka_unit_test(test_infer_once),
    };
    return cmocka_run_group_tests(tests, setup, teardown);
}
