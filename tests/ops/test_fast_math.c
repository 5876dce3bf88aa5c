/* Zeroes that are meant stay zeroes in a host that is compiled with -ffast-math, as the Makefile compiles
 * this file: such compilers take 0 and -0 for the same. */
#include "check.h"
#include "kiln_json.h"
#include "kiln_ops.h"

#ifndef __FAST_MATH__
#error "this file must be compiled with -ffast-math (or the compiler has another name for it)"
#endif

/* Not known to the compiler. */
static volatile float zero = 0, one = 1;

static void check_scale(kiln_f32_value scale, const char *want) {
    kiln_graph *g;
    kiln_json_text text;
    CHECK_OK(kiln_graph_create(NULL, &g, error));
    kiln_tensor x = kiln_input(g, "x", KILN_F32, KILN_SHAPE(kiln_n(4)));
    kiln_scale(g, x, (kiln_scale_attrs){.scale = scale});
    CHECK_OK(kiln_graph_to_json(g, NULL, &text, error));
    if (strstr(text.data, want) == NULL)
        fail_msg("expected %s in %s", want, text.data);
    kiln_json_text_free(&text);
    kiln_graph_destroy(g);
}

static const kiln_scale_attrs literal = {.scale = {KILN_ZERO_F32, 0}};

static void zeroes(void **state) {
    (void)state;
    check_scale(literal.scale, "\"scale\": 0, \"shift\": 0");
    check_scale(kiln_f32_const(0), "\"scale\": 0, \"shift\": 0");
    check_scale(kiln_f32_const(zero), "\"scale\": 0, \"shift\": 0");
    check_scale((kiln_f32_value){kiln_f32_given(zero * one), 0}, "\"scale\": 0, \"shift\": 0");
    check_scale((kiln_f32_value){0, 0}, "\"scale\": 1, \"shift\": 0");
    check_scale((kiln_f32_value){zero, 0}, "\"scale\": 1, \"shift\": 0");
    check_scale(kiln_f32_const(one), "\"scale\": 1, \"shift\": 0");
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(zeroes)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
