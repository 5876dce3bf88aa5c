#include "builder_calls.h"

#include "kiln.h"

#include <stdlib.h>
#include <string.h>

typedef struct stream {
    const uint8_t *at, *end;
} stream;

static uint32_t next(stream *s, uint32_t below) {
    return s->at < s->end ? *s->at++ % below : 0;
}

enum { MAX_TENSORS = 64, MAX_SLOTS = 4, MAX_CALLS = 48 };

typedef struct builder {
    stream *s;
    kiln_graph *g;
    kiln_tensor tensors[MAX_TENSORS];
    uint32_t n_tensors;
    kiln_slot slots[MAX_SLOTS];
    uint32_t n_slots, n_names;
    bool extreme; /* counts, places and attributes near the ends of their types */
} builder;

/* What sums and products of which may not fit. */
static int64_t extreme(stream *s) {
    static const int64_t ends[] = {INT64_MIN, INT64_MAX};
    const uint32_t bits = next(s, 64);
    const int64_t near = (int64_t)next(s, 5) - 2, power = (int64_t)(UINT64_C(1) << (bits % 63));
    switch (next(s, 8)) {
    case 0:
        return ends[bits % 2] == INT64_MIN ? INT64_MIN + (near + 2) : INT64_MAX - (near + 2);
    case 1:
        return power + near;
    case 2:
        return -power;
    case 3:
        return power;
    default:
        return (int64_t)(bits % 6);
    }
}

static int64_t number(builder *b, uint32_t below, int64_t less) {
    return b->extreme ? extreme(b->s) : (int64_t)next(b->s, below) - less;
}

static const char *name(builder *b, char buffer[16]) {
    static const char digits[] = "0123456789abcdef";
    uint32_t n = b->n_names++;
    buffer[0] = 'n';
    buffer[1] = digits[n / 16 % 16];
    buffer[2] = digits[n % 16];
    buffer[3] = '\0';
    return buffer;
}

static void push(builder *b, kiln_tensor t) {
    if (kiln_tensor_valid(t) && b->n_tensors < MAX_TENSORS)
        b->tensors[b->n_tensors++] = t;
}

static kiln_tensor pick(builder *b) {
    uint32_t i = next(b->s, b->n_tensors + 2);
    return i < b->n_tensors ? b->tensors[i] : (kiln_tensor){i == b->n_tensors ? 0 : 9999, 0};
}

static uint32_t dims(builder *b, kiln_dim out[4]) {
    static const int64_t sizes[] = {0, 1, 2, 3, 4, 8, 32, 64};
    uint32_t n = 1 + next(b->s, 4);
    for (uint32_t i = 0; i < n; i++) {
        uint32_t kind = next(b->s, 12);
        if (b->extreme && kind < 6)
            out[i] = kind < 2 && b->n_slots > 0 ? kiln_sym_times(b->slots[kind % b->n_slots], extreme(b->s))
                                                : kiln_n(extreme(b->s));
        else if (kind < 3 && b->n_slots > 0)
            out[i] = kiln_sym_times(b->slots[kind % b->n_slots], 1 + kind / 2);
        else
            out[i] = kiln_n(sizes[next(b->s, 8)]);
    }
    return n;
}

/* To be set or, one time in three, computed from what is there, with too few terms and too many. */
static kiln_slot add_slot(builder *b, const char *text) {
    const int64_t least = b->extreme ? extreme(b->s) : 0, most = number(b, 6, -1);
    kiln_dim terms[KILN_MAX_TERMS + 2];
    if (b->n_slots == 0 || next(b->s, 3) > 0)
        return kiln_slot_i64(b->g, text, least, most);
    uint32_t n = next(b->s, KILN_MAX_TERMS + 2);
    for (uint32_t i = 0; i < n; i++) {
        const uint32_t which = next(b->s, b->n_slots + 1);
        const int64_t factor = b->extreme ? extreme(b->s) : (int64_t)next(b->s, 4) - 1;
        terms[i] = which < b->n_slots ? kiln_sym_times(b->slots[which], factor) : kiln_n(factor);
    }
    return kiln_slot_sum(b->g, text, least, most, n, terms);
}

/* Any op with any operands and attribute bytes from a small set: mostly refused, and that must be clean. */
static void any_op(builder *b) {
    kiln_op_set ops = kiln_ops_builtin();
    const kiln_op *op = ops.ops[next(b->s, (uint32_t)ops.count)];
    kiln_tensor in[8], out[8];
    uint32_t n = next(b->s, 7);
    for (uint32_t i = 0; i < n; i++)
        in[i] = pick(b);
    _Alignas(8) unsigned char attrs[256];
    kiln_op_defaults(op, attrs);
    for (uint32_t i = 0; i < op->n_attrs; i++)
        if (next(b->s, 4) == 0) {
            uint32_t small = next(b->s, 6);
            void *at = attrs + op->attrs[i].offset;
            switch (op->attrs[i].type) {
            case KILN_ATTR_BOOL:
            case KILN_ATTR_OFF:
            case KILN_ATTR_ENUM:
                *(uint32_t *)at = small;
                break;
            case KILN_ATTR_I64:
            case KILN_ATTR_I64_SLOT:
                *(int64_t *)at = small == 5 ? KILN_ZERO_I64 : (int64_t)small - 1;
                break;
            case KILN_ATTR_F32:
            case KILN_ATTR_F32_SLOT:
                *(float *)at = small == 5 ? KILN_ZERO_F32 : (float)small - 1.0f;
                break;
            }
        }
    if (kiln_node_add(b->g, op, in, n, op->attrs_size ? attrs : NULL, out) == KILN_OK)
        for (uint32_t i = 0; i < op->n_out; i++)
            push(b, out[i]);
}

static kiln_tensor slice(builder *b) {
    const kiln_tensor of = pick(b);
    const int32_t axis = (int32_t)next(b->s, 4) - 1;
    const int64_t start = number(b, 5, 0), length = number(b, 5, 0);
    return kiln_slice(b->g, of, axis, start, kiln_n(length));
}

/* A tensor at any place of a storage, which is large, with any strides. */
static kiln_tensor strided(builder *b, kiln_dtype dtype) {
    char text[16];
    kiln_dim d[4];
    int64_t strides[4];
    const int64_t bytes = number(b, 256, 0), offset = number(b, 64, 0) & ~(int64_t)3;
    const uint32_t n = dims(b, d);
    for (uint32_t i = 0; i < n; i++)
        strides[i] = number(b, 64, 0) & ~(int64_t)3;
    const kiln_storage storage = kiln_storage_add(b->g, KILN_STORAGE_INPUT, name(b, text), bytes);
    return kiln_tensor_at(b->g, storage, offset, dtype, n, d, strides);
}

static void call(builder *b) {
    char text[16];
    kiln_dim d[4];
    uint32_t n;
    static const kiln_dtype dtypes[] = {KILN_F32, KILN_F32, KILN_F32,  KILN_F16, KILN_BF16,
                                        KILN_I32, KILN_U8,  KILN_Q8_0, KILN_Q4_0};
    switch (next(b->s, 15)) {
    case 0:
        if (b->n_slots < MAX_SLOTS) {
            kiln_slot slot = add_slot(b, name(b, text));
            if (slot.id != 0)
                b->slots[b->n_slots++] = slot;
        }
        break;
    case 1:
        n = dims(b, d);
        push(b, kiln_input(b->g, name(b, text), dtypes[next(b->s, 9)], n, d));
        break;
    case 2:
        n = dims(b, d);
        push(b, kiln_reshape(b->g, pick(b), n, d));
        break;
    case 3:
        push(b, kiln_transpose(b->g, pick(b), (int32_t)next(b->s, 5) - 2, (int32_t)next(b->s, 5) - 2));
        break;
    case 4:
        push(b, slice(b));
        break;
    case 5:
        n = dims(b, d);
        push(b, kiln_broadcast(b->g, pick(b), n, d));
        break;
    case 6:
        push(b, kiln_output(b->g, pick(b), name(b, text)));
        break;
    case 7:
        push(b, strided(b, dtypes[next(b->s, 9)]));
        break;
    default:
        any_op(b);
        break;
    }
}

static void must(bool ok) {
    if (!ok)
        abort();
}

static void bake_and_run(builder *b, kiln_executor *executor) {
    kiln_error error = {KILN_OK, ""};
    kiln_bake_options options = {.precision = (kiln_precision)next(b->s, 2),
                                 .no_fuse = next(b->s, 2) ? KILN_FUSE_ALL : 0,
                                 .serial = next(b->s, 8) == 0,
                                 .max_arena = next(b->s, 8) == 0 ? 4096 : 0};
    kiln_plan *plan;
    kiln_session *session;
    if (kiln_bake(b->g, &options, &plan, &error) != KILN_OK) {
        must(error.text[0] != '\0');
        return;
    }
    kiln_json_text text;
    must(kiln_plan_to_json(plan, NULL, NULL, &text, &error) == KILN_OK);
    must(kiln_plan_check_json(text.data, text.size, kiln_ops_builtin(), NULL, NULL, &error) == KILN_OK);
    kiln_json_text_free(&text);
    if (b->extreme) { /* sessions would take more memory than there is */
        kiln_plan_release(plan);
        return;
    }
    if (kiln_session_create(plan, executor, NULL, &session, &error) == KILN_OK) {
        for (int round = 0; round < 3; round++) {
            for (uint32_t i = 0; i < b->n_slots; i++)
                must(kiln_session_set_i64(session, b->slots[i], next(b->s, 8), &error) == KILN_OK ||
                     error.text[0] != '\0');
            kiln_status status = kiln_run(session, &error);
            /* What slots show to be impossible is refused in words. */
            must(status == KILN_OK || status == KILN_ERROR_INDEX ||
                 (status == KILN_ERROR_LIMIT && strstr(error.text, "slots: ") != NULL));
        }
        must(kiln_session_destroy(session, &error) == KILN_OK);
    } else {
        must(error.text[0] != '\0');
    }
    kiln_plan_release(plan);
}

void builder_calls_run(const uint8_t *data, size_t size, bool extremes) {
    stream s = {data, data + size};
    builder b = {.s = &s, .extreme = extremes};
    kiln_executor *executor;
    kiln_cpu_options cpu = {.threads = 1};
    must(kiln_graph_create(NULL, &b.g, NULL) == KILN_OK &&
         kiln_cpu_executor_create(NULL, &cpu, &executor, NULL) == KILN_OK);
    /* A failed call stops a graph for good; so that later calls are reached, each graph is built from calls
     * that worked, by taking the failing one out and starting again. */
    const uint8_t *calls[MAX_CALLS];
    uint32_t n_calls = 0;
    for (uint32_t i = 0; i < MAX_CALLS && s.at < s.end; i++) {
        calls[n_calls] = s.at;
        call(&b);
        kiln_error error = {KILN_OK, ""};
        if (kiln_graph_check(b.g, &error) == KILN_OK) {
            n_calls++;
            continue;
        }
        must(error.text[0] != '\0' && error.status != KILN_OK);
        const uint8_t *resume = s.at;
        kiln_graph_reset(b.g);
        b.n_tensors = b.n_slots = b.n_names = 0;
        for (uint32_t k = 0; k < n_calls; k++) {
            s.at = calls[k];
            call(&b);
        }
        s.at = resume;
    }
    if (kiln_graph_check(b.g, NULL) == KILN_OK)
        bake_and_run(&b, executor);
    must(kiln_executor_destroy(executor, NULL) == KILN_OK);
    kiln_graph_destroy(b.g);
}
