/* Has this process been forked since? A page that the system hands to children as zeroes: asking is one load. Where
 * there is none, the process id, which is a system call. Internal. */
#ifndef KILN_FORK_MARK_H
#define KILN_FORK_MARK_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

typedef struct kiln__fork_mark {
    const volatile uint32_t *page; /* 1 where it was made, 0 in children; NULL: not to be had */
    pid_t pid;
} kiln__fork_mark;

kiln__fork_mark kiln__fork_mark_make(void);
void kiln__fork_mark_free(const kiln__fork_mark *mark); /* in children too */

bool kiln__fork_mark_slow(const kiln__fork_mark *mark);

static inline bool kiln__forked(const kiln__fork_mark *mark) {
    return mark->page != NULL ? *mark->page == 0 : kiln__fork_mark_slow(mark);
}

#endif
