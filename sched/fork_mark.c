#define _DEFAULT_SOURCE /* MAP_ANONYMOUS, madvise */

#include "fork_mark.h"

#include <stddef.h>
#include <sys/mman.h>
#include <unistd.h>

static size_t mark_bytes(void) {
    long page = sysconf(_SC_PAGESIZE);
    return page > 0 ? (size_t)page : 4096;
}

/* Children get it as zeroes: Linux 4.14, macOS. Else the call fails. */
static bool wipe_on_fork(void *page) {
#if defined(__linux__) && defined(MADV_WIPEONFORK)
    /* Emulators (qemu-user) accept any advice and follow none: who accepts -1 is not believed. */
    return madvise(page, mark_bytes(), -1) != 0 && madvise(page, mark_bytes(), MADV_WIPEONFORK) == 0;
#elif defined(__APPLE__)
    return minherit(page, mark_bytes(), VM_INHERIT_ZERO) == 0;
#else
    (void)page;
    return false;
#endif
}

kiln__fork_mark kiln__fork_mark_make(void) {
    kiln__fork_mark mark = {NULL, getpid()};
    void *page = mmap(NULL, mark_bytes(), PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (page == MAP_FAILED)
        return mark;
    if (!wipe_on_fork(page)) {
        munmap(page, mark_bytes());
        return mark;
    }
    *(uint32_t *)page = 1;
    mark.page = page;
    return mark;
}

void kiln__fork_mark_free(const kiln__fork_mark *mark) {
    if (mark->page != NULL)
        munmap((void *)(uintptr_t)mark->page, mark_bytes());
}

bool kiln__fork_mark_slow(const kiln__fork_mark *mark) {
    return getpid() != mark->pid;
}
