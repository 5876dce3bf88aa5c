/* Where a command or a writer puts a file. What stood there before stays until the new one is whole:
 * PATH.partial is written and renamed. Only what can be renamed over is: a device, a pipe or anything else
 * that is no regular file is opened and written, and never removed. */
#ifndef KILN_OUT_FILE_H
#define KILN_OUT_FILE_H

#include <stdbool.h>
#include <stddef.h>

enum { KILN_OUT_PATH_MAX = 4096 };

typedef struct kiln__out_file {
    int fd;
    bool replace;                         /* `partial` is to be renamed to `target` */
    char target[KILN_OUT_PATH_MAX];       /* behind symbolic links */
    char partial[KILN_OUT_PATH_MAX + 16]; /* beside it */
} kiln__out_file;

/* Each returns 0 or an errno. After a successful open, finish must be called; `good` says whether all of it
 * was written. Unless it was, or where finish fails, what was there before is still there. */
int kiln__out_open(kiln__out_file *out, const char *path);
int kiln__out_write(kiln__out_file *out, const void *data, size_t size);
int kiln__out_finish(kiln__out_file *out, bool good);

#endif
