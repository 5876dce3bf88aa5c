#!/bin/sh
# json-glib writes a float such as 1e20 as 1e+20.0, which is not JSON, and which it does not read itself.
#
# Guess: a number that was read is written as a number.
# Seen:  libjson-glib-dev 1.6.6-1 of Debian 12: ".0" is added where 17 digits have no point, after an exponent, too.
#          [1e+20.0,100.0,1.5]
#          its own parser: refused
# Why:   a dump with a float such as 1e20 or 1e30 can no longer be read, by any program, after one built on json-glib has
#        re-written it.
set -eu
d=$(mktemp -d)
trap 'rm -rf "$d"' EXIT
pkg-config --exists json-glib-1.0 || apt-get install -y -qq libjson-glib-dev >/dev/null
cat >"$d/run.c" <<'EOC'
#include <json-glib/json-glib.h>
#include <stdio.h>
#include <string.h>
int main(void) {
    char *text = json_to_string(json_from_string("[1e20, 100.0, 1.5]", NULL), FALSE);
    const char *again = json_from_string(text, NULL) == NULL ? "refused" : "read";
    printf("%s\nits own parser: %s\n", text, again);
    if (strcmp(text, "[1e+20.0,100.0,1.5]") == 0 && strcmp(again, "refused") == 0)
        return 0;
    puts("this has changed");
    return 1;
}
EOC
"${CC:-cc}" "$d/run.c" -o "$d/run" $(pkg-config --cflags --libs json-glib-1.0)
"$d/run"
