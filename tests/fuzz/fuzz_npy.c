/* Bytes to the .npy parser, then all elements read. */
#include "tools/npy/npy.h"

#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    kiln_npy npy;
    kiln_error error = {0};
    kiln_status status = kiln_npy_parse(data, size, "fuzz", (kiln_allocator){0}, &npy, &error);
    if (status != error.status)
        __builtin_trap();
    volatile unsigned char sum = 0;
    for (int64_t i = 0; status == KILN_OK && i < npy.bytes; i++)
        sum = (unsigned char)(sum + ((const unsigned char *)npy.data)[i]);
    if (status == KILN_OK)
        kiln_npy_release(&npy);
    return 0;
}
