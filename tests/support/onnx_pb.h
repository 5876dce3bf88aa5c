/* Reads the tensors of ONNX's operator tests (TensorProto in a .pb file): just enough of protobuf for that.
 * Field 1 dims, 2 data_type, 8 name, 9 raw_data; others are skipped. */
#ifndef KILN_TESTS_ONNX_PB_H
#define KILN_TESTS_ONNX_PB_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum { ONNX_MAX_DIMS = 8 };

typedef struct onnx_tensor {
    uint32_t ndim;
    int64_t dims[ONNX_MAX_DIMS];
    int64_t n;     /* product of dims */
    double *value; /* n values of f32 or i64; NULL after a failure */
} onnx_tensor;

/* Parses the bytes of a file. False when they are no TensorProto of f32 or i64 raw data. */
bool onnx_parse(const void *bytes, size_t size, onnx_tensor *out);

/* Reads `relative` from the test data (testdata.h). False when it is absent. */
bool onnx_read(const char *relative, onnx_tensor *out);

void onnx_free(onnx_tensor *tensor);

#endif
