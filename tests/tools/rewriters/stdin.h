/* All of standard input, NUL-terminated; ends the program where there is no memory. */
#include <stdio.h>
#include <stdlib.h>

static char *read_stdin(size_t *size) {
    size_t capacity = 1 << 16, n = 0, got;
    char *text = (char *)malloc(capacity);
    while (text != NULL && (got = fread(text + n, 1, capacity - n - 1, stdin)) > 0) {
        n += got;
        if (n + 1 == capacity)
            text = (char *)realloc(text, capacity *= 2);
    }
    if (text == NULL)
        exit(2);
    text[n] = '\0';
    *size = n;
    return text;
}
