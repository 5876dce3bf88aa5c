# A host that brings its own cJSON and xxHash, of other versions or with other behaviour, changes nothing about Kiln: the
# library neither imports nor exports a symbol of theirs. The host is linked statically and dynamically.
set -eu
build=${BUILD:-build}
case $build in *asan* | *tsan* | *arm64*) echo "skipped: not for sanitizer and cross builds"; exit 0 ;; esac
tmp=$(mktemp -d)
trap 'rm -rf "$tmp"' EXIT
make -s --no-print-directory install BUILD="$build" DESTDIR="$tmp" PREFIX=/usr >"$tmp/log" 2>&1 || { cat "$tmp/log"; exit 1; }
root=$tmp/usr

cat >"$tmp/host.c" <<'EOC'
#include <kiln/kiln.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#ifdef OWN
/* Every function of the two libraries that a reader of JSON or a hash could need. None does what its name says. */
#define OWN_FUNCTION(name)                                                                                   \
    void *name(void);                                                                                        \
    void *name(void) {                                                                                       \
        called = #name;                                                                                      \
        return NULL;                                                                                         \
    }
static const char *called;
OWN_FUNCTION(cJSON_Version)
OWN_FUNCTION(cJSON_Parse)
OWN_FUNCTION(cJSON_ParseWithLength)
OWN_FUNCTION(cJSON_ParseWithOpts)
OWN_FUNCTION(cJSON_ParseWithLengthOpts)
OWN_FUNCTION(cJSON_Delete)
OWN_FUNCTION(cJSON_IsNumber)
OWN_FUNCTION(cJSON_IsString)
OWN_FUNCTION(cJSON_IsObject)
OWN_FUNCTION(cJSON_IsArray)
OWN_FUNCTION(cJSON_GetObjectItem)
OWN_FUNCTION(XXH_versionNumber)
OWN_FUNCTION(XXH32)
OWN_FUNCTION(XXH64)
OWN_FUNCTION(XXH3_64bits)
OWN_FUNCTION(XXH3_64bits_withSeed)
OWN_FUNCTION(XXH3_64bits_reset)
OWN_FUNCTION(XXH3_64bits_update)
OWN_FUNCTION(XXH3_64bits_digest)
OWN_FUNCTION(XXH3_128bits)
OWN_FUNCTION(XXH3_128bits_reset)
OWN_FUNCTION(XXH3_128bits_update)
OWN_FUNCTION(XXH3_128bits_digest)
#else
static const char *called;
#endif

static void stop_at(kiln_status status, const kiln_error *error) {
    if (status != KILN_OK) {
        printf("%s\n", error->text);
        exit(1);
    }
}

int main(void) {
    kiln_error error;
    kiln_graph *graph, *again;
    kiln_plan *plan;
    kiln_json_text text;
    stop_at(kiln_graph_create(NULL, &graph, &error), &error);
    kiln_tensor x = kiln_input(graph, "x", KILN_F32, KILN_SHAPE(kiln_n(3), kiln_n(8)));
    kiln_output(graph, kiln_silu(graph, kiln_add(graph, x, x)), "y");
    stop_at(kiln_bake(graph, NULL, &plan, &error), &error);
    stop_at(kiln_plan_to_json(plan, NULL, NULL, &text, &error), &error);
    stop_at(kiln_plan_check_json(text.data, text.size, kiln_ops_builtin(), NULL, NULL, &error), &error);
    stop_at(kiln_graph_from_json(text.data, text.size, kiln_ops_builtin(), NULL, NULL, &again, &error), &error);
    kiln_fingerprint f = kiln_graph_fingerprint(again);
    printf("%016llx%016llx %s\n", (unsigned long long)f.high, (unsigned long long)f.low, called ? called : "");
    kiln_json_text_free(&text);
    kiln_plan_release(plan);
    kiln_graph_destroy(again);
    kiln_graph_destroy(graph);
    return 0;
}
EOC
cc="${CC:-cc} -std=c11 -Wall -I$root/include $tmp/host.c"
$cc "$root/lib/libkiln.a" -lm -lpthread -o "$tmp/plain"
expected=$("$tmp/plain")
case $expected in *[0-9a-f]" ") ;; *) echo "the host without its own definitions printed '$expected'"; exit 1 ;; esac
# -rdynamic: the host's functions are in reach of libraries that are loaded with it.
$cc -DOWN -rdynamic "$root/lib/libkiln.a" -lm -lpthread -o "$tmp/static"
$cc -DOWN -rdynamic -L"$root/lib" -lkiln -o "$tmp/shared"
for kind in static shared; do
    got=$(LD_LIBRARY_PATH="$root/lib" DYLD_LIBRARY_PATH="$root/lib" "$tmp/$kind") || true
    [ "$got" = "$expected" ] || { echo "a host with its own cJSON and xxHash ($kind) printed '$got', not '$expected'"; exit 1; }
done
for library in "$root"/lib/libkiln.a "$root"/lib/libkiln_gguf.a; do
    foreign=$(nm "$library" 2>/dev/null | awk 'NF > 1 && $(NF - 1) ~ /^[A-Z]$/ && $NF ~ /cJSON|XXH/ {print $NF}' | sort -u)
    [ -z "$foreign" ] || { echo "$library has symbols of other libraries:" $foreign; exit 1; }
done
echo "fingerprint $expected of a plain host, and of two that define 23 functions of cJSON and xxHash"
