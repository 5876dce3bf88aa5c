/* KILN_DTYPE(NAME, lower, kind, values per block, bytes per block, alignment, text)
 * The one table of element types. Block layouts: the GGUF files' own (ggml), held bit for bit by tests.
 * q8_a is Kiln's own: 32 activations as f32 d, f32 s, 32 × i8 q; value = d·q, s = d·Σq (for min terms and
 * offsets, which then cost one multiply per block). It never stands in a file. */
KILN_DTYPE(F32, f32, FLOAT, 1, 4, 4, "IEEE 754 binary32")
KILN_DTYPE(F16, f16, FLOAT, 1, 2, 2, "IEEE 754 binary16")
KILN_DTYPE(BF16, bf16, FLOAT, 1, 2, 2, "upper half of binary32")
KILN_DTYPE(I32, i32, INT, 1, 4, 4, "signed 32-bit integer")
KILN_DTYPE(U32, u32, INT, 1, 4, 4, "unsigned 32-bit integer")
KILN_DTYPE(I64, i64, INT, 1, 8, 8, "signed 64-bit integer")
KILN_DTYPE(U8, u8, INT, 1, 1, 1, "unsigned byte")
KILN_DTYPE(Q4_0, q4_0, BLOCK, 32, 18, 2, "f16 d; nibbles, low first half; d*(q-8)")
KILN_DTYPE(Q5_1, q5_1, BLOCK, 32, 24, 2, "f16 d, f16 m, fifth bits, nibbles; d*q+m")
KILN_DTYPE(Q8_0, q8_0, BLOCK, 32, 34, 2, "f16 d; i8; d*q")
KILN_DTYPE(IQ4_NL, iq4_nl, BLOCK, 32, 18, 2, "f16 d; nibbles index a codebook of 16; d*c[q]")
KILN_DTYPE(Q4_K, q4_K, BLOCK, 256, 144, 2, "f16 d, dmin; 6-bit scale and min per 32; d*sc*q-dmin*m")
KILN_DTYPE(Q5_K, q5_K, BLOCK, 256, 176, 2, "as q4_K with fifth bits")
KILN_DTYPE(Q6_K, q6_K, BLOCK, 256, 210, 2, "i8 scale per 16; d*sc*(q-32)")
KILN_DTYPE(Q8_A, q8_a, ACT, 32, 40, 4, "f32 d, f32 d*sum(q), i8; d*q")
