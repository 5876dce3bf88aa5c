#include "stdin.h"
#include <json-glib/json-glib.h>

int main(void) {
    size_t size;
    char *text = read_stdin(&size);
    JsonNode *json = json_from_string(text, NULL);
    return json == NULL || fputs(json_to_string(json, FALSE), stdout) < 0;
}
