/* Boxes of bytes: do two of them share a byte, does one hold another? Internal.
 *
 * A box (kiln_box) is a strided set of bytes in one address space. Both questions are pure functions of two
 * boxes: no allocation, no state, any thread. Negative counts and lengths count as empty, negative strides
 * are legal. How it is done, and where it is exact, stands in box.c.
 */
#ifndef KILN_SCHED_BOX_H
#define KILN_SCHED_BOX_H

#include "kiln_op.h"

/* No byte at all. */
bool kiln__box_empty(const kiln_box *box);

/* The smallest half-open interval [*lo, *hi) with all bytes of the box in it; lo == hi == offset for an empty
 * one. False when an end does not fit int64 (then both are unspecified); boxes that were checked when they
 * were made never do that. */
bool kiln__box_hull(const kiln_box *box, int64_t *lo, int64_t *hi);

/* True when the box is exactly its hull: one run without gaps. May say no for a box whose levels overlap. */
bool kiln__box_dense(const kiln_box *box);

/* Do they share a byte? Exact when the strides of both together divide one another or nest (a stride at least
 * as long as what lies inside it), which every view of a dense tensor satisfies. Else it may say yes for
 * boxes that only interlace, never no for boxes that meet. At most a few thousand steps, for nesting boxes a
 * few dozen. */
bool kiln__box_overlap(const kiln_box *a, const kiln_box *b);

/* Does `a` hold every byte of `b`? May say no when it does (strides that do not divide), never yes when it
 * does not. An empty `b` is held by anything. */
bool kiln__box_covers(const kiln_box *a, const kiln_box *b);

/* Takes bytes that `by` holds off `rest`, as many as leave a box: from the front or the back of all its runs,
 * or whole runs from the front or the back; all of them when `by` covers it (length 0 then). Never takes a
 * byte that `by` does not hold. True when anything was taken. */
bool kiln__box_trim(kiln_box *rest, const kiln_box *by);

#endif
