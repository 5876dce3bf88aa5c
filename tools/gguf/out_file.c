/* Output files that are replaced in one step, or written in place where they are no regular files. */
#define _XOPEN_SOURCE 700 /* realpath */

#include "out_file.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

static int open_again(const char *path, int flags) {
    int fd;
    do {
        fd = open(path, flags | O_WRONLY | O_CLOEXEC, 0666);
    } while (fd < 0 && errno == EINTR);
    return fd;
}

/* A new file: what lies there from a run that was cut short goes, anything else that has the name stays. */
static int open_partial(const char *path) {
    struct stat info;
    int fd = open_again(path, O_CREAT | O_EXCL);
    if (fd < 0 && errno == EEXIST && lstat(path, &info) == 0 && S_ISREG(info.st_mode) && unlink(path) == 0)
        fd = open_again(path, O_CREAT | O_EXCL);
    return fd;
}

/* Where the file itself is; 0 or an errno. */
static int find_target(kiln__out_file *out, const char *path, const struct stat *link) {
    if (!S_ISLNK(link->st_mode)) {
        size_t length = strlen(path);
        if (length >= sizeof out->target)
            return ENAMETOOLONG;
        memcpy(out->target, path, length + 1);
        return 0;
    }
    char *real = realpath(path, NULL);
    if (real == NULL)
        return errno;
    size_t length = strlen(real);
    if (length < sizeof out->target)
        memcpy(out->target, real, length + 1);
    free(real);
    return length < sizeof out->target ? 0 : ENAMETOOLONG;
}

int kiln__out_open(kiln__out_file *out, const char *path) {
    struct stat info, link;
    out->fd = -1;
    bool named = lstat(path, &link) == 0;
    if (!named && errno != ENOENT)
        return errno;
    if (!named)
        memset(&link, 0, sizeof link);
    bool there = named && stat(path, &info) == 0;
    out->replace = there ? S_ISREG(info.st_mode) : !named;
    if (!out->replace) { /* a link to nothing, too: opening it makes what it names */
        out->fd = open_again(path, O_CREAT | O_NOCTTY);
        return out->fd < 0 ? errno : 0;
    }
    int code = find_target(out, path, &link);
    if (code != 0)
        return code;
    if (there && access(out->target, W_OK) != 0)
        return errno; /* a file that is write-protected is not replaced behind its owner's back */
    snprintf(out->partial, sizeof out->partial, "%s.partial", out->target);
    out->fd = open_partial(out->partial);
    if (out->fd < 0)
        return errno;
    if (there)
        (void)fchmod(out->fd, info.st_mode & 0777); /* a file system without modes does as well */
    return 0;
}

int kiln__out_write(kiln__out_file *out, const void *data, size_t size) {
    const unsigned char *next = data;
    while (size > 0) {
        ssize_t wrote = write(out->fd, next, size < ((size_t)1 << 30) ? size : (size_t)1 << 30);
        if (wrote < 0 && errno == EINTR)
            continue;
        if (wrote <= 0)
            return wrote < 0 ? errno : EIO;
        next += wrote;
        size -= (size_t)wrote;
    }
    return 0;
}

int kiln__out_finish(kiln__out_file *out, bool good) {
    int code = 0;
    if (close(out->fd) != 0 && good)
        code = errno;
    out->fd = -1;
    if (!out->replace)
        return code;
    if (good && code == 0 && rename(out->partial, out->target) != 0)
        code = errno;
    if (!good || code != 0)
        unlink(out->partial);
    return code;
}
