/* Boxes of bytes.
 *
 * Properties. `overlap` never says no when a byte is shared and `covers` never says yes when a byte is
 * missing; both take bounded work and allocate nothing. `overlap` is exact for all views of dense tensors.
 *
 * Problem. Column slices, heads and KV pages are strided and lie inside one another's hulls without touching,
 * so comparing hulls would serialise what is independent. Enumerating runs costs as much as there are rows.
 *
 * Method. Two boxes share a byte when some run of A and some run of B do: when start of A's run minus start
 * of B's run lies in the window (-length of A, length of B). That difference is
 *
 *     offset A - offset B + sum i·s - sum j·t,        0 ≤ i < count A, 0 ≤ j < count B, per level
 *
 * a sum of terms k·S with each k in a range of its own. Levels of equal stride give one term, since i - j
 * takes every value from 1 - count B to count A - 1. So the question is: is there a sum of at most six such
 * terms in a window? Three exact reductions make it small:
 *
 *   fold   S not above the window's width: the windows shifted by k·S form one interval; widen it, and drop
 *          the term.
 *   merge  S divides S' and k has at least S'/S values: multiples of S without a gap; one term of stride S.
 *   clip   the largest S first; the rest of the sum spans a known interval, which leaves few values of k.
 *
 * When strides divide or nest, clip leaves at most three values per term. When they do not (7 against 10),
 * the search may be long; after STEPS_MAX steps the answer is yes.
 *
 * Considered. Splitting levels so that both boxes get equal strides: many cases, and it multiplies boxes
 * where counts do not divide. Diophantine solving by gcd: exact for two terms only, with large intermediate
 * numbers.
 *
 * Arithmetic. Everything is done only when both hulls lie in (-2^60, 2^60): then no span, window or sum below
 * reaches 2^63. Boxes outside (no machine has the memory) are compared by their hulls.
 */
#include "box.h"

#include "checked.h"

enum { STEPS_MAX = 4096 };
#define FAR (INT64_C(1) << 60)

typedef struct level {
    int64_t count, stride;
} level;

/* A box in normal form: count ≥ 2, strides positive and strictly ascending, all above `length`. */
typedef struct shape {
    int64_t offset, length;
    int n;
    level levels[KILN_BOX_LEVELS];
} shape;

bool kiln__box_empty(const kiln_box *box) {
    bool empty = box->length <= 0;
    for (int l = 0; l < KILN_BOX_LEVELS; l++)
        empty |= box->count[l] <= 0;
    return empty;
}

/* All of its hull, and most boxes are: what follows for strides is not worth calling. */
static bool one_run(const kiln_box *box) {
    return box->count[0] == 1 && box->count[1] == 1 && box->count[2] == 1;
}

bool kiln__box_hull(const kiln_box *box, int64_t *lo, int64_t *hi) {
    *lo = *hi = box->offset;
    if (one_run(box))
        return box->length <= 0 || kiln__add(*hi, box->length, hi);
    if (kiln__box_empty(box))
        return true;
    bool ok = kiln__add(*hi, box->length, hi);
    for (int l = 0; ok && l < KILN_BOX_LEVELS; l++) {
        if (box->count[l] == 1)
            continue;
        int64_t reach;
        int64_t *end = box->stride[l] < 0 ? lo : hi;
        ok = kiln__mul(box->count[l] - 1, box->stride[l], &reach) && kiln__add(*end, reach, end);
    }
    return ok;
}

static int levels_ascending(const kiln_box *box, int64_t *offset, level out[KILN_BOX_LEVELS]) {
    int n = 0;
    for (int l = 0; l < KILN_BOX_LEVELS; l++) {
        level v = {box->count[l], box->stride[l]};
        if (v.count == 1 || v.stride == 0)
            continue;
        if (v.stride < 0) {
            *offset += (v.count - 1) * v.stride;
            v.stride = -v.stride;
        }
        int at = n++;
        for (; at > 0 && out[at - 1].stride > v.stride; at--)
            out[at] = out[at - 1];
        out[at] = v;
    }
    return n;
}

/* The normal form of a box that is not empty and whose hull is near. The set of bytes stays the same: levels
 * that repeat a byte or a run seamlessly are taken into the run or into the level below. */
static shape shape_of(const kiln_box *box) {
    shape s = {.offset = box->offset, .length = box->length};
    level in[KILN_BOX_LEVELS];
    int n = levels_ascending(box, &s.offset, in);
    for (int l = 0; l < n; l++) {
        level *top = s.n > 0 ? &s.levels[s.n - 1] : NULL;
        if (top == NULL && in[l].stride <= s.length)
            s.length += (in[l].count - 1) * in[l].stride;
        else if (top != NULL && in[l].stride % top->stride == 0 && in[l].stride / top->stride <= top->count)
            top->count += (in[l].count - 1) * (in[l].stride / top->stride);
        else
            s.levels[s.n++] = in[l];
    }
    return s;
}

bool kiln__box_dense(const kiln_box *box) {
    int64_t lo, hi;
    if (kiln__box_empty(box))
        return true;
    if (!kiln__box_hull(box, &lo, &hi) || lo <= -FAR || hi >= FAR)
        return false;
    return one_run(box) || shape_of(box).n == 0;
}

/* ---- overlap ---------------------------------------------------------------------------------------- */

enum { TERMS_MAX = 2 * KILN_BOX_LEVELS };

/* k·stride with lo ≤ k ≤ hi */
typedef struct term {
    int64_t stride, lo, hi;
} term;

/* Adds a term, keeping strides ascending and distinct. */
static void term_add(term *terms, int *n, term t) {
    int at = 0;
    while (at < *n && terms[at].stride < t.stride)
        at++;
    if (at < *n && terms[at].stride == t.stride) {
        terms[at].lo += t.lo;
        terms[at].hi += t.hi;
        return;
    }
    memmove(&terms[at + 1], &terms[at], (size_t)(*n - at) * sizeof *terms);
    terms[at] = t;
    (*n)++;
}

static void term_drop(term *terms, int *n, int at) {
    (*n)--;
    memmove(&terms[at], &terms[at + 1], (size_t)(*n - at) * sizeof *terms);
}

static void merge_terms(term *terms, int *n) {
    for (int i = 0; i < *n; i++) {
        for (int j = i + 1; j < *n;) {
            int64_t times = terms[j].stride / terms[i].stride;
            if (terms[j].stride % terms[i].stride != 0 || terms[i].hi - terms[i].lo + 1 < times) {
                j++;
                continue;
            }
            terms[i].lo += terms[j].lo * times;
            terms[i].hi += terms[j].hi * times;
            term_drop(terms, n, j);
            j = i + 1; /* the range grew: earlier refusals may pass now */
        }
    }
}

static int64_t div_floor(int64_t a, int64_t b) {
    return a / b - (a % b != 0 && a < 0);
}

static int64_t div_ceil(int64_t a, int64_t b) {
    return a / b + (a % b != 0 && a > 0);
}

/* Is a sum of terms[0 … n-1] in [lo, hi]? Yes when the steps run out. */
static bool sum_in(const term *terms, int n, int64_t lo, int64_t hi, int *steps) {
    if (n == 0)
        return lo <= 0 && 0 <= hi;
    int64_t rest_min = 0, rest_max = 0;
    for (int i = 0; i < n - 1; i++) {
        rest_min += terms[i].lo * terms[i].stride;
        rest_max += terms[i].hi * terms[i].stride;
    }
    const term *t = &terms[n - 1];
    int64_t first = div_ceil(lo - rest_max, t->stride), last = div_floor(hi - rest_min, t->stride);
    first = first < t->lo ? t->lo : first;
    last = last > t->hi ? t->hi : last;
    if (n == 1)
        return first <= last;
    for (int64_t k = first; k <= last; k++) {
        if (--*steps < 0 || sum_in(terms, n - 1, lo - k * t->stride, hi - k * t->stride, steps))
            return true;
    }
    return false;
}

static bool shapes_overlap(const shape *a, const shape *b) {
    int64_t apart = a->offset - b->offset;
    int64_t lo = 1 - a->length - apart, hi = b->length - 1 - apart;
    term terms[TERMS_MAX + 1];
    int n = 0, steps = STEPS_MAX;
    for (int l = 0; l < a->n; l++)
        term_add(terms, &n, (term){a->levels[l].stride, 0, a->levels[l].count - 1});
    for (int l = 0; l < b->n; l++)
        term_add(terms, &n, (term){b->levels[l].stride, 1 - b->levels[l].count, 0});
    while (n > 0 && terms[0].stride <= hi - lo + 1) {
        int64_t widen_lo = terms[0].hi * terms[0].stride, widen_hi = terms[0].lo * terms[0].stride;
        lo -= widen_lo;
        hi -= widen_hi;
        term_drop(terms, &n, 0);
    }
    merge_terms(terms, &n);
    return sum_in(terms, n, lo, hi, &steps);
}

bool kiln__box_overlap(const kiln_box *a, const kiln_box *b) {
    if (kiln__box_empty(a) || kiln__box_empty(b))
        return false;
    int64_t a_lo, a_hi, b_lo, b_hi;
    if (!kiln__box_hull(a, &a_lo, &a_hi) || !kiln__box_hull(b, &b_lo, &b_hi))
        return true;
    if (a_hi <= b_lo || b_hi <= a_lo)
        return false;
    if ((one_run(a) && one_run(b)) || a_lo <= -FAR || b_lo <= -FAR || a_hi >= FAR || b_hi >= FAR)
        return true;
    shape sa = shape_of(a), sb = shape_of(b);
    return shapes_overlap(&sa, &sb);
}

/* ---- covers ----------------------------------------------------------------------------------------- */

/* Peels the levels of both from the largest of A's down. A's largest level is a row of copies of A without
 * it, S apart. Levels of B whose stride is a multiple of S step from copy to copy; the rest of B must lie
 * within one copy q, and q plus the furthest step must be a copy of A still. Without levels A is its hull. */
static bool shape_covers(const shape *a, const shape *b) {
    shape rest = *b;
    int64_t shift = 0;
    for (int l = a->n - 1; l >= 0; l--) {
        int64_t stride = a->levels[l].stride, steps = 0;
        int kept = 0;
        for (int m = 0; m < rest.n; m++) {
            level v = rest.levels[m];
            if (v.stride % stride == 0)
                steps += (v.count - 1) * (v.stride / stride);
            else
                rest.levels[kept++] = v;
        }
        rest.n = kept;
        int64_t q = div_floor(rest.offset - (a->offset + shift), stride);
        if (q < 0 || q + steps >= a->levels[l].count)
            return false;
        shift += q * stride;
    }
    int64_t lo = a->offset + shift, end = rest.offset + rest.length;
    for (int m = 0; m < rest.n; m++)
        end += (rest.levels[m].count - 1) * rest.levels[m].stride;
    return rest.offset >= lo && end <= lo + a->length;
}

bool kiln__box_covers(const kiln_box *a, const kiln_box *b) {
    if (kiln__box_empty(b))
        return true;
    int64_t a_lo, a_hi, b_lo, b_hi;
    if (kiln__box_empty(a) || !kiln__box_hull(a, &a_lo, &a_hi) || !kiln__box_hull(b, &b_lo, &b_hi))
        return false;
    if (b_lo < a_lo || b_hi > a_hi || a_lo <= -FAR || a_hi >= FAR)
        return false;
    if (one_run(a))
        return true;
    shape sa = shape_of(a), sb = shape_of(b);
    return shape_covers(&sa, &sb);
}

/* ---- trim ------------------------------------------------------------------------------------------- */

static kiln_box box_of(const shape *s) {
    kiln_box box = {s->offset, s->length, {1, 1, 1}, {0, 0, 0}};
    for (int l = 0; l < s->n; l++) {
        box.count[l] = s->levels[l].count;
        box.stride[l] = s->levels[l].stride;
    }
    return box;
}

/* Where byte `at` lies in the run of `b` that it would be in if it were in any: 0 … length-1 when it is. */
static int64_t place_in_run(const shape *b, int64_t at) {
    int64_t d = at - b->offset;
    for (int l = b->n - 1; l >= 0 && d >= 0; l--) {
        int64_t q = d / b->levels[l].stride;
        q = q < b->levels[l].count ? q : b->levels[l].count - 1;
        d -= q * b->levels[l].stride;
    }
    return d;
}

/* Front or back of every run:
 * what of the first run is covered is a guess that `shape_covers` proves for all. */
static bool trim_runs(shape *r, const shape *b) {
    shape part = *r;
    int64_t front = b->length - place_in_run(b, r->offset);
    if (front > 0 && front <= b->length) {
        part.length = front < r->length ? front : r->length;
        if (shape_covers(b, &part)) {
            r->offset += part.length;
            r->length -= part.length;
            return true;
        }
    }
    int64_t back = place_in_run(b, r->offset + r->length - 1) + 1;
    if (back > 0 && back <= b->length) {
        part.length = back < r->length ? back : r->length;
        part.offset = r->offset + r->length - part.length;
        if (shape_covers(b, &part)) {
            r->length -= part.length;
            return true;
        }
    }
    return false;
}

/* Whole copies along the largest level, from the front or the back, that lie in one run of bytes [lo, hi). */
static bool trim_rows(shape *r, int64_t lo, int64_t hi) {
    level *top = &r->levels[r->n - 1];
    int64_t row = r->length;
    for (int l = 0; l < r->n - 1; l++)
        row += (r->levels[l].count - 1) * r->levels[l].stride;
    int64_t first = div_ceil(lo - r->offset, top->stride),
            last = div_floor(hi - row - r->offset, top->stride);
    first = first < 0 ? 0 : first;
    last = last >= top->count ? top->count - 1 : last;
    if (first > last || (first > 0 && last < top->count - 1))
        return false;
    top->count -= last - first + 1;
    r->offset += first == 0 ? (last + 1) * top->stride : 0;
    return true;
}

bool kiln__box_trim(kiln_box *rest, const kiln_box *by) {
    int64_t lo, hi, by_lo, by_hi;
    if (kiln__box_empty(rest) || kiln__box_empty(by) || !kiln__box_hull(rest, &lo, &hi) ||
        !kiln__box_hull(by, &by_lo, &by_hi) || by_hi <= lo || hi <= by_lo || lo <= -FAR || by_lo <= -FAR ||
        hi >= FAR || by_hi >= FAR)
        return false;
    shape r = shape_of(rest), b = shape_of(by);
    if (shape_covers(&b, &r)) {
        *rest = (kiln_box){lo, 0, {1, 1, 1}, {0, 0, 0}};
        return true;
    }
    if (r.n == 0 && b.n > 0) { /* one run as rows of one stride, without gaps */
        int64_t stride = b.levels[b.n - 1].stride;
        if (r.length % stride != 0 || r.length == stride)
            return false;
        r.levels[r.n++] = (level){r.length / stride, stride};
        r.length = stride;
    }
    if (!trim_runs(&r, &b) && !(b.n == 0 && r.n > 0 && trim_rows(&r, by_lo, by_hi)))
        return false;
    *rest = box_of(&r);
    return true;
}
