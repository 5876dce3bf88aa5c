#!/bin/sh
# cJSON prints an integer from 2^52 on as its neighbour, although it compares what it printed with the number.
#
# Guess: it prints 15 digits, reads them back, and takes 17 where that is another number: 2^52 - 1 and 2^52 + 3 survive,
#        as every integer below 2^53 does.
# Seen:  libcjson-dev 1.7.15-1+deb12u4 of Debian 12: the comparison allows a relative difference of DBL_EPSILON, which is 1
#        at 2^52.
#          4503599627370495 -> 4503599627370495
#          4503599627370499 -> 4.5035996273705e+15
#          9007199254740991 -> 9.00719925474099e+15
# Why:   a limit such as 2^53 - 1 comes back as another integer, and most readers take it. Kiln writes integers from 2^52 on
#        as strings, and refuses the forms above.
set -eu
d=$(mktemp -d)
trap 'rm -rf "$d"' EXIT
pkg-config --exists libcjson || apt-get install -y -qq libcjson-dev >/dev/null
cat >"$d/run.c" <<'EOC'
#include <cjson/cJSON.h>
#include <stdio.h>
#include <string.h>
int main(void) {
    static const char *const cases[][2] = {{"4503599627370495", "4503599627370495"},
                                           {"4503599627370499", "4.5035996273705e+15"},
                                           {"9007199254740991", "9.00719925474099e+15"}};
    int changed = 0;
    for (int i = 0; i < 3; i++) {
        char *text = cJSON_Print(cJSON_Parse(cases[i][0]));
        printf("%s -> %s\n", cases[i][0], text);
        changed |= strcmp(text, cases[i][1]) != 0;
    }
    if (changed)
        puts("this has changed");
    return changed;
}
EOC
"${CC:-cc}" "$d/run.c" -o "$d/run" $(pkg-config --cflags --libs libcjson)
"$d/run"
