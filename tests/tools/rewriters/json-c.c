#include "stdin.h"
#include <json.h>

int main(void) {
    size_t size;
    struct json_object *json = json_tokener_parse(read_stdin(&size));
    return json == NULL || fputs(json_object_to_json_string(json), stdout) < 0;
}
