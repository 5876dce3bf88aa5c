#define _POSIX_C_SOURCE 200809L

#include "testdata.h"

#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

static const char *data_folder(void) {
    const char *folder = getenv("KILN_TEST_DATA");
    return folder != NULL && folder[0] != '\0' ? folder : "../shared/data";
}

const char *testdata_path(const char *relative, char *buffer, size_t size) {
    const char *folder = data_folder();
    if (access(folder, R_OK) != 0) {
        printf("skipped: no test data (%s; set KILN_TEST_DATA)\n", folder);
        return NULL;
    }
    int n = snprintf(buffer, size, "%s/%s", folder, relative);
    if (n < 0 || (size_t)n >= size || access(buffer, R_OK) != 0) {
        printf("skipped: no test data: %s\n", relative);
        return NULL;
    }
    return buffer;
}

void *testdata_read_path(const char *path, size_t *size) {
    *size = 0;
    FILE *file = fopen(path, "rb");
    if (file == NULL)
        return NULL;
    char *bytes = NULL;
    size_t count = 0, capacity = 4096;
    for (;;) {
        char *grown = realloc(bytes, capacity);
        if (grown == NULL)
            break;
        bytes = grown;
        count += fread(bytes + count, 1, capacity - count, file);
        if (count < capacity) {
            bool failed = ferror(file) != 0;
            fclose(file);
            if (failed) {
                free(bytes);
                return NULL;
            }
            *size = count;
            return bytes;
        }
        capacity *= 2;
    }
    free(bytes);
    fclose(file);
    return NULL;
}

void *testdata_read(const char *relative, size_t *size) {
    char path[TESTDATA_PATH_SIZE];
    *size = 0;
    return testdata_path(relative, path, sizeof path) != NULL ? testdata_read_path(path, size) : NULL;
}
