# The Makefile as users and other makes start it: what can be set from outside, how many jobs run at once, and what is said
# where packages are missing. Compiler and package manager are played; nothing is compiled.
set -u
unset MAKEFLAGS MFLAGS MAKELEVEL STRICT
tmp=$(mktemp -d) || exit 1
trap 'rm -rf "$tmp"' EXIT
failed=0 checks=0
check() { # check TEXT COMMAND...: the command succeeds
    what=$1
    shift
    checks=$((checks + 1))
    "$@" && return
    failed=$((failed + 1))
    echo "FAILED: $what"
    cut -c1-150 "$tmp/log" 2>/dev/null | head -n 30 | sed 's/^/    /'
}
# The same Makefile and tools over few and empty sources: what is tried here starts make dozens of times.
mkdir "$tmp/tree" && cp -r Makefile README.md tools "$tmp/tree" || exit 1
rm -f "$tmp"/tree/tools/*/*.c
for f in graph/kiln ops/a ops/b kernels/c kernels/cpu/gemm_int kernels/cpu/softmax sched/d sched/e capture/f tools/gguf/g \
    tools/llm/h tools/npy/i tools/kiln/main tests/support/j tests/ops/test_k examples/01_l; do
    mkdir -p "$tmp/tree/${f%/*}"
    echo 'int kiln_nothing;' >"$tmp/tree/$f.c"
done
: >"$tmp/tree/graph/kiln.h" && : >"$tmp/tree/graph/JSON.md"
cd "$tmp/tree" || exit 1
has() { grep -q -e "$1" "$tmp/log"; }
lacks() { ! grep -q -e "$1" "$tmp/log"; }

# ---- variables -----------------------------------------------------------------------------------------------------

run() { make --no-print-directory -n BUILD="$tmp/none" "$@" all install check-run 2>&1; }
run >"$tmp/plain"
check 'make -n prints commands' grep -q 'kernels/cpu/gemm_int' "$tmp/plain"
# What a parent hands down on its command line, and what an environment has.
names=$(sed -n 's/^\([A-Z_a-z]*\) *[:?+]*=.*/\1/p' Makefile | sort -u |
    grep -v -x -e CC -e CFLAGS -e LDFLAGS -e OPT -e SAN -e BUILD -e PREFIX -e DESTDIR -e STRICT -e V -e PKG_CONFIG -e PKG_CFLAGS \
        -e TEST_CFLAGS -e TEST_LIBS -e KERNEL_OPT -e WARN)
check 'the Makefile has its own variables' test "$(echo "$names" | wc -l)" -gt 30
set --
for n in $names; do set -- "$@" "$n=kiln-foreign"; done
run "$@" SETTABLE= COMMON=1 >"$tmp/foreign"
diff "$tmp/foreign" "$tmp/plain" >"$tmp/log" 2>&1
check 'variables of the Makefile are not set by the command line' cmp -s "$tmp/plain" "$tmp/foreign"
(export "$@" && run) >"$tmp/foreign"
check 'variables of the Makefile are not set by the environment' cmp -s "$tmp/plain" "$tmp/foreign"
printf 'all:\n\t@$(MAKE) --no-print-directory -n -C "%s" BUILD="%s/none" all install check-run 2>&1\n' "$PWD" "$tmp" >"$tmp/parent.mk"
make -s -f "$tmp/parent.mk" KILN=kiln.c LIB=lib SHARED=yes VERSION=7 LINK_LIBS=-lx >"$tmp/foreign"
check 'a parent make may have a KILN, a LIB and a VERSION' cmp -s "$tmp/plain" "$tmp/foreign"
# The documented ones can.
for set in CC=my-cc CFLAGS=-my-flag LDFLAGS=-my-flag OPT=-O7 PREFIX=/my/prefix DESTDIR=/my/root TEST_LIBS=-lmy KERNEL_OPT=-O8; do
    run "$set" >"$tmp/log"
    check "$set reaches the commands" has "${set#*=}"
done
run STRICT=1 SAN=address >"$tmp/log"
check 'STRICT=1 reaches the compiler' has -Werror
check 'SAN=address reaches the compiler' has -fsanitize=address
run CFLAGS=-g3 | grep 'kernels/cpu/gemm_int' >"$tmp/log"
check 'CFLAGS=-g3 comes after what the Makefile says for kernels' has '-g1 .*-g3'

# ---- jobs ----------------------------------------------------------------------------------------------------------

# A compiler that notes how many of it there are. The first ones wait until there are $WANT, however busy the machine is,
# and a moment for one too many; without enough jobs they wait in vain.
mkdir "$tmp/play" "$tmp/now"
cat >"$tmp/play/played-cc" <<'END'
#!/bin/sh
case $* in *-dumpmachine*) echo "$(uname -m)-linux-gnu"; exit ;; esac
cd "$PLAY/../now" && : >"$$" || exit 1
tries=0
while [ ! -e ../met ] && [ "$(ls | wc -l)" -lt "$WANT" ] && [ $tries -lt 100 ]; do
    sleep 0.1
    tries=$((tries + 1))
done
[ -e ../met ] || sleep 0.3
: >../met
ls | wc -l >>../jobs
cd "$OLDPWD" && rm "$PLAY/../now/$$"
while [ $# -gt 0 ]; do
    [ "$1" != -o ] || { echo 'exit 0' >"$2"; chmod +x "$2"; }
    shift
done
END
printf '#!/bin/sh\ncase $* in --exists*) ;; *) echo -lplayed ;; esac\n' >"$tmp/play/pkg-config"
printf '#!/bin/sh\necho 3\n' >"$tmp/play/nproc"
chmod +x "$tmp/play/"*
export PLAY="$tmp/play"
jobs() { # jobs NUMBER ARGUMENT...: runs make as a user would; so many jobs at once, and no warning
    WANT=$1
    shift
    export WANT
    rm -rf "$tmp/build" "$tmp/jobs" "$tmp/met"
    PATH=$tmp/play:$PATH make --no-print-directory CC=played-cc BUILD="$tmp/build" DESTDIR="$tmp/root" "$@" >"$tmp/log" 2>&1 ||
        { failed=$((failed + 1)); echo "FAILED: make $*"; tail -n 5 "$tmp/log"; }
    at_once=$(sort -n "$tmp/jobs" | tail -n 1 | tr -d ' ')
    check "make $*: no warning about jobs" lacks 'jobserver\|forced'
    check "make $*: $WANT jobs at once, not $at_once" test "$at_once" = "$WANT"
}
# 3 processors, as nproc is played.
jobs 3 demo
jobs 3 install
jobs 3 deps install
jobs 2 -j2 demo
jobs 4 -j4 deps install
printf 'all:\n\t+$(MAKE) --no-print-directory -C "%s" demo\n' "$PWD" >"$tmp/parent.mk"
jobs 2 -j2 -f "$tmp/parent.mk"

# ---- packages ------------------------------------------------------------------------------------------------------

# A system without any package, whose apt knows the packages in $PLAY/known.
printf '#!/bin/sh\nexit 1\n' >"$tmp/play/pkg-config"
printf '#!/bin/sh\ngrep -qx "$2" "$PLAY/known"\n' >"$tmp/play/apt-cache"
cat >"$tmp/play/apt-get" <<'END'
#!/bin/sh
echo "apt-get $*" >>"$PLAY/apt.log"
case $1 in
update) printf 'libcjson-dev\nlibxxhash-dev\nlibcmocka-dev\n' >"$PLAY/known" ;;
install) grep -q . "$PLAY/known" ;;
esac
END
printf '#!/bin/sh\n[ "$1" = -n ] && exit 0\nexec "$@"\n' >"$tmp/play/sudo"
chmod +x "$tmp/play/"*
bare() { # bare ARGUMENT...: make there; its exit code
    rm -rf "$tmp/build" "$tmp/jobs"
    : >"$tmp/play/apt.log"
    PATH=$tmp/play:$PATH make --no-print-directory CC=played-cc BUILD="$tmp/build" DESTDIR="$tmp/root" "$@" >"$tmp/log" 2>&1
}
echo libxxhash-dev >"$tmp/play/known"
for target in all install "$tmp/build/kiln" '-j4 all'; do
    # shellcheck disable=SC2086
    bare $target
    check "make $target fails without packages" test $? != 0
    check "make $target names the packages" has 'missing packages: libxxhash-dev'
    check "make $target names make deps" has "'make deps'"
    check "make $target prints the command" has 'sudo apt-get install libxxhash-dev'
    check "make $target compiles nothing" test ! -e "$tmp/jobs"
    check "make $target installs nothing" test ! -s "$tmp/play/apt.log"
done
: >"$tmp/play/known"
bare all
check 'without lists of packages make says apt-get update' has 'apt-get update && sudo apt-get install libxxhash-dev'
bare deps
check 'make deps works without lists of packages' test $? = 0
check 'make deps says that lists are missing' has 'lists of packages are missing or old'
check 'make deps fetches lists first' test "$(head -n 1 "$tmp/play/apt.log" | cut -c1-14)" = 'apt-get update'
bare deps
check 'make deps does not fetch lists that are there' lacks 'apt-get update'
bare all PKG_CFLAGS=-Imine
check 'a user who gives PKG_CFLAGS needs no pkg-config' test $? = 0
# Every package that is named is in the README, make and pkg-config too.
for p in make pkg-config libcjson libxxhash libcmocka; do
    checks=$((checks + 1))
    grep -q "\b$p\b" README.md || { failed=$((failed + 1)); echo "FAILED: README.md does not name $p"; }
done

echo "$checks checks of the Makefile, $failed failed"
[ $failed = 0 ]
