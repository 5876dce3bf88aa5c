/* Insertion sort of short runs, then bottom-up merging; runs that are in order already are not touched. */
#include "sort.h"

#include <string.h>

enum { RUN = 12 };

static void sort_run(kiln__key *keys, size_t n) {
    for (size_t i = 1; i < n; i++) {
        kiln__key k = keys[i];
        size_t at = i;
        for (; at > 0 && keys[at - 1].key > k.key; at--)
            keys[at] = keys[at - 1];
        keys[at] = k;
    }
}

static void merge(kiln__key *keys, kiln__key *scratch, size_t middle, size_t n) {
    if (keys[middle - 1].key <= keys[middle].key)
        return;
    memcpy(scratch, keys, middle * sizeof *keys);
    size_t left = 0, right = middle, to = 0;
    while (left < middle && right < n)
        keys[to++] = keys[right].key < scratch[left].key ? keys[right++] : scratch[left++];
    memcpy(keys + to, scratch + left, (middle - left) * sizeof *keys);
}

void kiln__sort_keys(kiln__key *keys, kiln__key *scratch, size_t n) {
    for (size_t at = 0; at < n; at += RUN)
        sort_run(keys + at, n - at < RUN ? n - at : RUN);
    for (size_t width = RUN; width < n; width *= 2)
        for (size_t at = 0; n - at > width; at += 2 * width) {
            merge(keys + at, scratch, width, n - at < 2 * width ? n - at : 2 * width);
            if (n - at <= 2 * width)
                break;
        }
}
