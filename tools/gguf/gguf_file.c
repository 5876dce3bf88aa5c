/* The bytes of a file: mapped, read, or given by the caller. */
#define _POSIX_C_SOURCE 200809L

#include "gguf_internal.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

/* The largest page of the systems Kiln runs on: a read file can then be wrapped whole,
 * as a mapped one can. */
static const size_t read_page = 16384;

/* Largest single read: some systems refuse 2 GiB and more. */
static const size_t read_chunk = (size_t)1 << 30;

void kiln_gguf__label_set(gguf_label *label, const char *path) {
    size_t length = strlen(path), room = sizeof label->text - 1;
    if (length <= room)
        memcpy(label->text, path, length + 1);
    else
        snprintf(label->text, sizeof label->text, "...%s", path + length - (room - 3));
}

static kiln_status copy_path(const kiln_allocator *a, const char *path, gguf_file *file, kiln_error *error) {
    size_t size = strlen(path) + 1;
    kiln_gguf__label_set(&file->label, path);
    file->path = KILN_NEW(a, char, size);
    if (file->path == NULL)
        return GGUF_FAIL(&file->label, error, KILN_ERROR_MEMORY, "no memory for its path (%zu bytes)", size);
    memcpy(file->path, path, size);
    file->part.path = file->path;
    return KILN_OK;
}

static kiln_status system_error(const gguf_file *file, const char *what, int code, kiln_error *error) {
    return GGUF_FAIL(&file->label, error, KILN_ERROR_SYSTEM, "cannot %s: %s", what, strerror(code));
}

static kiln_status map_whole(int fd, size_t size, gguf_file *file, kiln_error *error) {
    void *base = mmap(NULL, size, PROT_READ, MAP_SHARED, fd, 0);
    if (base == MAP_FAILED) {
        int code = errno;
        return GGUF_FAIL(&file->label, error, KILN_ERROR_SYSTEM,
                         "cannot map %zu bytes: %s; reading it (KILN_GGUF_READ) may work", size,
                         strerror(code));
    }
    long page = sysconf(_SC_PAGESIZE);
    size_t unit = page > 0 ? (size_t)page : 1;
    file->part.base = base;
    file->part.size = size;
    file->part.mapped_size = (size + unit - 1) / unit * unit;
    file->origin = GGUF_MAPPED;
    return KILN_OK;
}

static kiln_status read_whole(const kiln_allocator *a, int fd, size_t size, gguf_file *file,
                              kiln_error *error) {
    size_t room = (size + read_page - 1) / read_page * read_page, at = 0;
    unsigned char *base = a->alloc(a->context, room, read_page);
    if (base == NULL)
        return GGUF_FAIL(&file->label, error, KILN_ERROR_MEMORY, "no memory to read it (%zu bytes)", room);
    while (at < size) {
        size_t want = size - at < read_chunk ? size - at : read_chunk;
        ssize_t got = read(fd, base + at, want);
        if (got < 0 && errno == EINTR)
            continue;
        if (got <= 0) {
            int code = errno;
            a->free(a->context, base, room);
            return got < 0
                       ? system_error(file, "read", code, error)
                       : GGUF_FAIL(&file->label, error, KILN_ERROR_SYSTEM,
                                   "ended at byte %zu of %zu: it was shortened while being read", at, size);
        }
        at += (size_t)got;
    }
    memset(base + size, 0, room - size);
    file->part.base = base;
    file->part.size = size;
    file->part.mapped_size = room;
    file->origin = GGUF_ALLOCATED;
    return KILN_OK;
}

static kiln_status load_open(const kiln_allocator *a, int fd, kiln_gguf_access access, gguf_file *file,
                             kiln_error *error) {
    struct stat info;
    if (fstat(fd, &info) != 0)
        return system_error(file, "inspect", errno, error);
    if (!S_ISREG(info.st_mode))
        return GGUF_FAIL(&file->label, error, KILN_ERROR_SYSTEM, "is %s, not a file",
                         S_ISDIR(info.st_mode) ? "a folder" : "a pipe or device");
    if (info.st_size < GGUF_HEADER_SIZE)
        return GGUF_FAIL(&file->label, error, KILN_ERROR_FORMAT,
                         "%lld bytes long, a GGUF header alone has %d: not a GGUF file, or truncated",
                         (long long)info.st_size, GGUF_HEADER_SIZE);
    if ((uint64_t)info.st_size > SIZE_MAX - 2 * read_page || info.st_size > INT64_MAX / 2)
        return GGUF_FAIL(&file->label, error, KILN_ERROR_OVERFLOW, "%lld bytes do not fit the address space",
                         (long long)info.st_size);
    size_t size = (size_t)info.st_size;
    return access == KILN_GGUF_MMAP ? map_whole(fd, size, file, error) : read_whole(a, fd, size, file, error);
}

kiln_status kiln_gguf__file_load(const kiln_allocator *a, const char *path, kiln_gguf_access access,
                                 gguf_file *file, kiln_error *error) {
    memset(file, 0, sizeof *file);
    kiln_status status = copy_path(a, path, file, error);
    if (status != KILN_OK)
        return status;
    int fd;
    do {
        /* Non-blocking: a pipe without a writer must be refused, not waited for. */
        fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
    } while (fd < 0 && errno == EINTR);
    if (fd < 0) {
        status = system_error(file, "open", errno, error);
    } else {
        status = load_open(a, fd, access, file, error);
        close(fd);
    }
    if (status != KILN_OK)
        kiln_gguf__file_release(a, file);
    return status;
}

kiln_status kiln_gguf__file_given(const kiln_allocator *a, const kiln_gguf_bytes *bytes, gguf_file *file,
                                  kiln_error *error) {
    memset(file, 0, sizeof *file);
    const char *name = bytes->name != NULL ? bytes->name : "memory";
    kiln_gguf__label_set(&file->label, name);
    if (bytes->data == NULL && bytes->size != 0)
        return GGUF_FAIL(&file->label, error, KILN_ERROR_ARGUMENT, "data is NULL, but size is %zu",
                         bytes->size);
    if (bytes->size < GGUF_HEADER_SIZE)
        return GGUF_FAIL(&file->label, error, KILN_ERROR_FORMAT,
                         "%zu bytes long, a GGUF header alone has %d: not a GGUF file, or truncated",
                         bytes->size, GGUF_HEADER_SIZE);
    if (bytes->size > INT64_MAX / 2)
        return GGUF_FAIL(&file->label, error, KILN_ERROR_OVERFLOW, "%zu bytes cannot be in memory",
                         bytes->size);
    file->part.base = bytes->data;
    file->part.size = file->part.mapped_size = bytes->size;
    file->origin = GGUF_GIVEN;
    return copy_path(a, name, file, error);
}

void kiln_gguf__file_release(const kiln_allocator *a, gguf_file *file) {
    /* The part is const to users only; what was mapped or allocated is ours. */
    union {
        const void *seen;
        void *owned;
    } base = {file->part.base};
    if (file->origin == GGUF_MAPPED)
        munmap(base.owned, file->part.size);
    else if (file->origin == GGUF_ALLOCATED)
        a->free(a->context, base.owned, file->part.mapped_size);
    if (file->path != NULL)
        KILN_DELETE(a, file->path, char, strlen(file->path) + 1);
    memset(file, 0, sizeof *file);
}
