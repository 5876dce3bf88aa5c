#include <jansson.h>

int main(void) {
    json_t *json = json_loadf(stdin, 0, NULL);
    return json == NULL || json_dumpf(json, stdout, 0) != 0;
}
