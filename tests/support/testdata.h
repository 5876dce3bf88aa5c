/* Where tests find the data that is not part of the repository: $KILN_TEST_DATA, or ../shared/data beside the
 * repository root (tests are run from there). A test whose data is absent says so and skips itself:
 *
 *     char path[TESTDATA_PATH_SIZE];
 *     if (testdata_path("gguf/docker_dummy.gguf", path, sizeof path) == NULL)
 *         skip();
 */
#ifndef KILN_TESTS_TESTDATA_H
#define KILN_TESTS_TESTDATA_H

#include <stddef.h>

#define TESTDATA_PATH_SIZE 1024

/* Writes the path of `relative` (a file or a folder) to `buffer` and returns `buffer`. NULL when there is no
 * such file, or the path does not fit; the first NULL of a process prints "skipped: no test data" when the
 * whole folder is missing, or "skipped: no test data: RELATIVE" each time a single file is. */
const char *testdata_path(const char *relative, char *buffer, size_t size);

/* The bytes of a file, from malloc (the caller frees them), with their number in `*size`. NULL when absent
 * (printed as above) or unreadable. An empty file gives a pointer that may be freed, and size 0. */
void *testdata_read(const char *relative, size_t *size);

/* The same for any path, silently. */
void *testdata_read_path(const char *path, size_t *size);

#endif
