/* Typed access to keys: conversions that never change a value. */
#include "gguf_internal.h"
#include "fp_mode.h"

#include <inttypes.h>
#include <math.h>

/* A scalar as it stands in a file, before conversion. */
typedef struct number {
    enum { NUMBER_NONE, NUMBER_INT, NUMBER_FLOAT, NUMBER_BOOL } kind;
    bool negative;      /* INT: the value is below 0 */
    uint64_t magnitude; /* INT: its absolute value; BOOL: 0 or 1 */
    double real;        /* FLOAT */
} number;

static number from_signed(int64_t v) {
    return (number){NUMBER_INT, v < 0, v < 0 ? ~(uint64_t)v + 1 : (uint64_t)v, 0};
}

static number from_unsigned(uint64_t v) {
    return (number){NUMBER_INT, false, v, 0};
}

#define LOAD(TYPE, NAME, FROM)                                                                               \
    static number load_##NAME(const unsigned char *bytes) {                                                  \
        TYPE v;                                                                                              \
        memcpy(&v, bytes, sizeof v);                                                                         \
        return FROM;                                                                                         \
    }

LOAD(uint8_t, u8, from_unsigned(v))
LOAD(int8_t, i8, from_signed(v))
LOAD(uint16_t, u16, from_unsigned(v))
LOAD(int16_t, i16, from_signed(v))
LOAD(uint32_t, u32, from_unsigned(v))
LOAD(int32_t, i32, from_signed(v))
LOAD(uint64_t, u64, from_unsigned(v))
LOAD(int64_t, i64, from_signed(v))
LOAD(float, f32, ((number){NUMBER_FLOAT, false, 0, (double)v}))
LOAD(double, f64, ((number){NUMBER_FLOAT, false, 0, v}))
LOAD(uint8_t, bool, ((number){NUMBER_BOOL, false, v, 0}))

static number (*const loaders[KILN_GGUF_TYPE_COUNT])(const unsigned char *) = {
    [KILN_GGUF_U8] = load_u8,   [KILN_GGUF_I8] = load_i8,     [KILN_GGUF_U16] = load_u16,
    [KILN_GGUF_I16] = load_i16, [KILN_GGUF_U32] = load_u32,   [KILN_GGUF_I32] = load_i32,
    [KILN_GGUF_F32] = load_f32, [KILN_GGUF_BOOL] = load_bool, [KILN_GGUF_U64] = load_u64,
    [KILN_GGUF_I64] = load_i64, [KILN_GGUF_F64] = load_f64,
};

/* Element `i`; kind NONE for strings and arrays. */
static number load_element(const kiln_gguf_kv *kv, int64_t i) {
    if (loaders[kv->element] == NULL)
        return (number){NUMBER_NONE, false, 0, 0};
    return loaders[kv->element]((const unsigned char *)kv->data +
                                (size_t)i * kiln_gguf__scalar_size(kv->element));
}

/* ---- Conversions: false, and `out` untouched, when the value does not fit --------------------------- */

static bool to_i64(const number *n, int64_t *out) {
    if (n->kind != NUMBER_INT || n->magnitude > (uint64_t)INT64_MAX + n->negative)
        return false;
    *out = !n->negative ? (int64_t)n->magnitude : n->magnitude == 0 ? 0 : -(int64_t)(n->magnitude - 1) - 1;
    return true;
}

static bool to_u64(const number *n, uint64_t *out) {
    if (n->kind != NUMBER_INT || n->negative)
        return false;
    *out = n->magnitude;
    return true;
}

static bool to_real(const number *n, uint64_t exact, double *out) {
    if (n->kind == NUMBER_FLOAT)
        *out = n->real;
    else if (n->kind == NUMBER_INT && n->magnitude <= exact)
        *out = n->negative ? -(double)n->magnitude : (double)n->magnitude;
    else
        return false;
    return true;
}

static bool convert_i64(const number *n, void *out) {
    return to_i64(n, out);
}

static bool convert_u64(const number *n, void *out) {
    return to_u64(n, out);
}

static bool convert_i32(const number *n, void *out) {
    int64_t v;
    if (!to_i64(n, &v) || v < INT32_MIN || v > INT32_MAX)
        return false;
    *(int32_t *)out = (int32_t)v;
    return true;
}

static bool convert_u32(const number *n, void *out) {
    uint64_t v;
    if (!to_u64(n, &v) || v > UINT32_MAX)
        return false;
    *(uint32_t *)out = (uint32_t)v;
    return true;
}

static bool convert_f64(const number *n, void *out) {
    return to_real(n, (uint64_t)1 << 53, out);
}

static bool convert_f32(const number *n, void *out) {
    double v;
    if (!to_real(n, (uint64_t)1 << 24, &v) || (isfinite(v) && !isfinite((float)v)))
        return false;
    *(float *)out = (float)v;
    return true;
}

static bool convert_bool(const number *n, void *out) {
    if (n->kind != NUMBER_BOOL)
        return false;
    *(bool *)out = n->magnitude != 0;
    return true;
}

/* ---- Getting ---------------------------------------------------------------------------------------- */

typedef struct wanted {
    const char *what; /* "a u32" */
    size_t size;
    bool (*convert)(const number *n, void *out);
    bool reals, bools; /* takes floating point numbers; takes bools only */
} wanted;

static const wanted want_u32 = {"a u32", sizeof(uint32_t), convert_u32, false, false};
static const wanted want_i32 = {"an i32", sizeof(int32_t), convert_i32, false, false};
static const wanted want_u64 = {"a u64", sizeof(uint64_t), convert_u64, false, false};
static const wanted want_i64 = {"an i64", sizeof(int64_t), convert_i64, false, false};
static const wanted want_integer = {"an integer", sizeof(int64_t), convert_i64, false, false};
static const wanted want_f32 = {"an f32", sizeof(float), convert_f32, true, false};
static const wanted want_f64 = {"an f64", sizeof(double), convert_f64, true, false};
static const wanted want_bool = {"a bool", sizeof(bool), convert_bool, false, true};

static const gguf_label *label_of(const kiln_gguf *gguf) {
    return &gguf->files.items[0].label;
}

static const char *article(kiln_gguf_type type) {
    return type == KILN_GGUF_I8 || type == KILN_GGUF_I16 || type == KILN_GGUF_I32 || type == KILN_GGUF_I64 ||
                   type == KILN_GGUF_F32 || type == KILN_GGUF_F64 || type == KILN_GGUF_ARRAY
               ? "an"
               : "a";
}

/* The entry of `key`, which must be there; `what` is what the caller wants. */
static kiln_status find(const kiln_gguf *gguf, const char *key, const char *what, const void *out,
                        const kiln_gguf_kv **kv, kiln_error *error) {
    if (gguf == NULL || key == NULL || out == NULL)
        return GGUF_ERROR(error, KILN_ERROR_ARGUMENT, "getting a GGUF key: gguf, key or out is NULL");
    *kv = kiln_gguf_kv_find(gguf, key);
    if (*kv == NULL)
        return GGUF_FAIL(label_of(gguf), error, KILN_ERROR_FORMAT, "has no key '%.120s', expected %s", key,
                         what);
    return KILN_OK;
}

/* Element `i` of `kv` to `out`. */
static kiln_status convert(const gguf_label *label, const kiln_gguf_kv *kv, int64_t i, const wanted *want,
                           void *out, kiln_error *error) {
    kiln__fp mode = kiln__enter_fp_mode();
    number n = load_element(kv, i);
    const bool fits = want->convert(&n, out);
    kiln__leave_fp_mode(mode);
    if (fits)
        return KILN_OK;
    bool right_kind = want->bools              ? n.kind == NUMBER_BOOL
                      : n.kind == NUMBER_FLOAT ? want->reals
                                               : n.kind == NUMBER_INT;
    if (!right_kind)
        return GGUF_FAIL(label, error, KILN_ERROR_FORMAT, "key '%.120s' holds %s %s, expected %s", kv->key,
                         article(kv->element), kiln_gguf_type_name(kv->element), want->what);
    if (n.kind == NUMBER_FLOAT)
        return GGUF_FAIL(label, error, KILN_ERROR_FORMAT, "key '%.120s' is %g, which does not fit %s",
                         kv->key, n.real, want->what);
    return GGUF_FAIL(label, error, KILN_ERROR_FORMAT, "key '%.120s' is %s%" PRIu64 ", which does not fit %s",
                     kv->key, n.negative ? "-" : "", n.magnitude, want->what);
}

static kiln_status get_scalar(const kiln_gguf *gguf, const char *key, const wanted *want, void *out,
                              kiln_error *error) {
    const kiln_gguf_kv *kv = NULL;
    kiln_status status = find(gguf, key, want->what, out, &kv, error);
    if (status != KILN_OK)
        return status;
    if (kv->type == KILN_GGUF_ARRAY)
        return GGUF_FAIL(label_of(gguf), error, KILN_ERROR_FORMAT,
                         "key '%.120s' holds an array of %" PRId64 " %s, expected %s", key, kv->count,
                         kiln_gguf_type_name(kv->element), want->what);
    return convert(label_of(gguf), kv, 0, want, out, error);
}

kiln_status kiln_gguf_get_u32(const kiln_gguf *gguf, const char *key, uint32_t *out, kiln_error *error) {
    return get_scalar(gguf, key, &want_u32, out, error);
}

kiln_status kiln_gguf_get_i32(const kiln_gguf *gguf, const char *key, int32_t *out, kiln_error *error) {
    return get_scalar(gguf, key, &want_i32, out, error);
}

kiln_status kiln_gguf_get_u64(const kiln_gguf *gguf, const char *key, uint64_t *out, kiln_error *error) {
    return get_scalar(gguf, key, &want_u64, out, error);
}

kiln_status kiln_gguf_get_i64(const kiln_gguf *gguf, const char *key, int64_t *out, kiln_error *error) {
    return get_scalar(gguf, key, &want_i64, out, error);
}

kiln_status kiln_gguf_get_f32(const kiln_gguf *gguf, const char *key, float *out, kiln_error *error) {
    return get_scalar(gguf, key, &want_f32, out, error);
}

kiln_status kiln_gguf_get_f64(const kiln_gguf *gguf, const char *key, double *out, kiln_error *error) {
    return get_scalar(gguf, key, &want_f64, out, error);
}

kiln_status kiln_gguf_get_bool(const kiln_gguf *gguf, const char *key, bool *out, kiln_error *error) {
    return get_scalar(gguf, key, &want_bool, out, error);
}

kiln_status kiln_gguf_get_string(const kiln_gguf *gguf, const char *key, kiln_gguf_string *out,
                                 kiln_error *error) {
    const kiln_gguf_kv *kv = NULL;
    kiln_status status = find(gguf, key, "a string", out, &kv, error);
    if (status != KILN_OK)
        return status;
    if (kv->type != KILN_GGUF_STRING)
        return GGUF_FAIL(label_of(gguf), error, KILN_ERROR_FORMAT,
                         "key '%.120s' holds %s %s, expected a string", key, article(kv->type),
                         kiln_gguf_type_name(kv->type));
    kiln_gguf_strings strings = kiln_gguf_strings_of(kv);
    kiln_gguf_strings_next(&strings, out);
    return KILN_OK;
}

kiln_status kiln_gguf_get_array(const kiln_gguf *gguf, const char *key, const kiln_gguf_kv **out,
                                kiln_error *error) {
    const kiln_gguf_kv *kv = NULL;
    kiln_status status = find(gguf, key, "an array", out, &kv, error);
    if (status != KILN_OK)
        return status;
    if (kv->type != KILN_GGUF_ARRAY)
        return GGUF_FAIL(label_of(gguf), error, KILN_ERROR_FORMAT,
                         "key '%.120s' holds %s %s, expected an array", key, article(kv->type),
                         kiln_gguf_type_name(kv->type));
    *out = kv;
    return KILN_OK;
}

static kiln_status get_elements(const kiln_gguf *gguf, const char *key, const wanted *want, void *out,
                                int64_t count, kiln_error *error) {
    const kiln_gguf_kv *kv = NULL;
    kiln_status status = kiln_gguf_get_array(gguf, key, &kv, error);
    if (status != KILN_OK)
        return status;
    if (out == NULL && count != 0)
        return GGUF_FAIL(label_of(gguf), error, KILN_ERROR_ARGUMENT, "getting array '%.120s': out is NULL",
                         key);
    if (kv->count != count)
        return GGUF_FAIL(label_of(gguf), error, KILN_ERROR_FORMAT,
                         "key '%.120s' holds %" PRId64 " elements, expected %" PRId64, key, kv->count, count);
    for (int64_t i = 0; i < count && status == KILN_OK; i++)
        status = convert(label_of(gguf), kv, i, want, (unsigned char *)out + (size_t)i * want->size, error);
    return status;
}

kiln_status kiln_gguf_get_array_i32(const kiln_gguf *gguf, const char *key, int32_t *out, int64_t count,
                                    kiln_error *error) {
    return get_elements(gguf, key, &want_i32, out, count, error);
}

kiln_status kiln_gguf_get_array_u32(const kiln_gguf *gguf, const char *key, uint32_t *out, int64_t count,
                                    kiln_error *error) {
    return get_elements(gguf, key, &want_u32, out, count, error);
}

kiln_status kiln_gguf_get_array_f32(const kiln_gguf *gguf, const char *key, float *out, int64_t count,
                                    kiln_error *error) {
    return get_elements(gguf, key, &want_f32, out, count, error);
}

kiln_status kiln_gguf_get_array_u64(const kiln_gguf *gguf, const char *key, uint64_t *out, int64_t count,
                                    kiln_error *error) {
    return get_elements(gguf, key, &want_u64, out, count, error);
}

kiln_status kiln_gguf_get_array_i64(const kiln_gguf *gguf, const char *key, int64_t *out, int64_t count,
                                    kiln_error *error) {
    return get_elements(gguf, key, &want_i64, out, count, error);
}

kiln_status kiln_gguf_get_array_f64(const kiln_gguf *gguf, const char *key, double *out, int64_t count,
                                    kiln_error *error) {
    return get_elements(gguf, key, &want_f64, out, count, error);
}

kiln_status kiln_gguf_get_array_bool(const kiln_gguf *gguf, const char *key, bool *out, int64_t count,
                                     kiln_error *error) {
    return get_elements(gguf, key, &want_bool, out, count, error);
}

bool kiln_gguf_kv_f64(const kiln_gguf_kv *kv, int64_t index, double *out) {
    if (kv == NULL || out == NULL || index < 0 || index >= kv->count)
        return false;
    number n = load_element(kv, index);
    if (n.kind == NUMBER_NONE)
        return false;
    *out = n.kind == NUMBER_FLOAT ? n.real : n.negative ? -(double)n.magnitude : (double)n.magnitude;
    return true;
}

kiln_status kiln_gguf__optional_int(const gguf_keys *keys, const gguf_label *label, const char *key,
                                    int64_t low, int64_t high, int64_t *out, kiln_error *error) {
    const kiln_gguf_kv *kv = kiln_gguf__keys_find(keys, key);
    int64_t value = 0;
    if (kv == NULL)
        return KILN_OK;
    if (kv->type == KILN_GGUF_ARRAY)
        return GGUF_FAIL(label, error, KILN_ERROR_FORMAT, "key '%s' holds an array, expected an integer",
                         key);
    kiln_status status = convert(label, kv, 0, &want_integer, &value, error);
    if (status != KILN_OK)
        return status;
    if (value < low || value > high)
        return GGUF_FAIL(label, error, KILN_ERROR_FORMAT,
                         "key '%s' is %" PRId64 ", expected %" PRId64 " to %" PRId64, key, value, low, high);
    *out = value;
    return KILN_OK;
}

/* ---- Strings ---------------------------------------------------------------------------------------- */

kiln_gguf_strings kiln_gguf_strings_of(const kiln_gguf_kv *kv) {
    if (kv == NULL || kv->element != KILN_GGUF_STRING)
        return (kiln_gguf_strings){NULL, 0};
    return (kiln_gguf_strings){kv->data, kv->count};
}

bool kiln_gguf_strings_next(kiln_gguf_strings *strings, kiln_gguf_string *out) {
    if (strings->left <= 0)
        return false;
    uint64_t size;
    memcpy(&size, strings->next, sizeof size); /* checked when the file was opened */
    *out = (kiln_gguf_string){(const char *)strings->next + sizeof size, (size_t)size};
    strings->next += sizeof size + (size_t)size;
    strings->left--;
    return true;
}
