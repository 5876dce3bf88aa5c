/* yajl_tree_parse and yajl_gen, with numbers as the library gives them: as integers where they are, else as
 * doubles. */
#include "stdin.h"
#include <string.h>
#include <yajl/yajl_gen.h>
#include <yajl/yajl_tree.h>

static void put_string(yajl_gen g, const char *text) {
    yajl_gen_string(g, (const unsigned char *)text, strlen(text));
}

static void put(yajl_gen g, yajl_val v) {
    if (YAJL_IS_OBJECT(v)) {
        yajl_gen_map_open(g);
        for (size_t i = 0; i < v->u.object.len; i++) {
            put_string(g, v->u.object.keys[i]);
            put(g, v->u.object.values[i]);
        }
        yajl_gen_map_close(g);
    } else if (YAJL_IS_ARRAY(v)) {
        yajl_gen_array_open(g);
        for (size_t i = 0; i < v->u.array.len; i++)
            put(g, v->u.array.values[i]);
        yajl_gen_array_close(g);
    } else if (YAJL_IS_STRING(v)) {
        put_string(g, YAJL_GET_STRING(v));
    } else if (YAJL_IS_INTEGER(v)) {
        yajl_gen_integer(g, YAJL_GET_INTEGER(v));
    } else if (YAJL_IS_DOUBLE(v)) {
        yajl_gen_double(g, YAJL_GET_DOUBLE(v));
    } else if (YAJL_IS_NULL(v)) {
        yajl_gen_null(g);
    } else {
        yajl_gen_bool(g, YAJL_IS_TRUE(v));
    }
}

int main(void) {
    size_t size;
    char error[200] = "";
    const unsigned char *text;
    yajl_gen g = yajl_gen_alloc(NULL);
    yajl_val json = yajl_tree_parse(read_stdin(&size), error, sizeof error);
    if (json == NULL || g == NULL)
        return 1;
    put(g, json);
    return yajl_gen_get_buf(g, &text, &size) != yajl_gen_status_ok || fwrite(text, 1, size, stdout) != size;
}
