#!/bin/sh
# clang-tidy over the given sources with the flags of the build; then every public header alone as C and as C++.
set -u
command -v clang-tidy >/dev/null 2>&1 || { echo "kiln: clang-tidy is not installed (apt-get install clang-tidy)" >&2; exit 1; }
flags="-std=c11 -D_POSIX_C_SOURCE=200809L -I. -Igraph -Ikernels -Iops -Isched -Icapture -Ikernels -Itools/gguf -DKILN_LEVEL=base
       $(pkg-config --cflags libxxhash)"
bad=0
printf '%s\n' "$@" | xargs -P 2 -n 8 sh -c 'flags=$1; shift; clang-tidy --quiet "$@" -- $flags 2>/dev/null' sh "$flags" || bad=1
for h in $(ls graph/kiln*.h | grep -v _list) kernels/kiln*.h ops/kiln*.h sched/kiln*.h capture/kiln*.h tools/gguf/kiln*.h; do
    "${CC:-cc}" -std=c11 -Wall -Wextra -Wpedantic -Werror -fsyntax-only -Igraph -Ikernels -Iops -Isched -Icapture -x c "$h" || bad=1
    "${CXX:-c++}" -std=c++11 -Wall -Wextra -Wpedantic -Werror -fsyntax-only -Igraph -Ikernels -Iops -Isched -Icapture -x c++ "$h" || bad=1
done
[ $bad = 0 ] && echo "lint: ok"
exit $bad
