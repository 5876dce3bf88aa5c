# make install, then what a user does: compiles the README's program with pkg-config, static and shared, and looks at what
# the shared library exports.
set -eu
case ${BUILD:-build} in *asan* | *tsan* | *arm64*) echo "skipped: not for sanitizer and cross builds"; exit 77 ;; esac
tmp=$(mktemp -d)
trap 'rm -rf "$tmp"' EXIT
make -s --no-print-directory install DESTDIR="$tmp" PREFIX=/usr >"$tmp/log" 2>&1 || { cat "$tmp/log"; exit 1; }
root=$tmp/usr
for f in include/kiln/kiln.h lib/libkiln.a lib/libkiln_gguf.a lib/pkgconfig/kiln.pc bin/kiln share/man/man1/kiln.1 \
    share/doc/kiln/JSON.md; do
    [ -e "$root/$f" ] || { echo "not installed: $f"; exit 1; }
done
# Public headers are the kiln*.h files, and nothing else is installed beside them.
[ -z "$(ls "$root/include/kiln" | grep -v '^kiln.*\.h$')" ] || { ls "$root/include/kiln"; exit 1; }

awk '/^```c$/ { on = 1; next } /^```$/ { if (on) exit } on' README.md >"$tmp/program.c"
[ "$(wc -l <"$tmp/program.c")" -ge 20 ] || { echo "no program in README.md"; exit 1; }
export PKG_CONFIG_SYSROOT_DIR="$tmp" PKG_CONFIG_PATH="$root/lib/pkgconfig:$(pkg-config --variable pc_path pkg-config)"
# The sysroot goes in front of every path, the other packages' too: only kiln's own flags are taken from here.
cflags="-I$root/include" libs="-L$root/lib -lkiln"
[ -n "$(pkg-config --cflags --libs kiln)" ] || exit 1
unset PKG_CONFIG_SYSROOT_DIR

expect() { # output of the README's program: silu(2), silu(-1)... computed by hand: W x = [1+2-3, -1-1] = [0, -2]
    [ "$1" = "0 -0.238406" ] || { echo "$2 printed '$1'"; exit 1; }
}
"${CC:-cc}" -std=c11 -Wall $cflags "$tmp/program.c" $libs -o "$tmp/shared"
expect "$(LD_LIBRARY_PATH="$root/lib" DYLD_LIBRARY_PATH="$root/lib" "$tmp/shared")" "the README's program (shared)"
"${CC:-cc}" -std=c11 $cflags "$tmp/program.c" "$root/lib/libkiln.a" -lm -lpthread -o "$tmp/static"
expect "$("$tmp/static")" "the README's program (static)"
if [ "$(uname -s)" = Linux ]; then
    foreign=$(nm -D --defined-only "$root"/lib/libkiln.so | awk '$2 ~ /[A-Z]/ && $3 !~ /^kiln_[^_]/ {print $3}')
    [ -z "$foreign" ] || { echo "exported though not public: $foreign"; exit 1; }
fi
make -s --no-print-directory uninstall DESTDIR="$tmp" PREFIX=/usr
[ -z "$(find "$root" -type f)" ] || { echo "left by uninstall:"; find "$root" -type f; exit 1; }

# A PREFIX of the user's own, with a space in it: the lines that `make install` prints are all that it takes, as root or
# not. Who runs it and what ldconfig does are played.
mkdir "$tmp/as"
printf '#!/bin/sh\n[ "$1" != -u ] || echo "$WHO"\n' >"$tmp/as/id"
printf '#!/bin/sh\n[ "$1" = -p ] && echo "	libkiln.so.0 (libc6) => $KNOWN/lib/libkiln.so.0" || echo called >>"%s/ldconfig"\n' "$tmp" \
    >"$tmp/as/ldconfig"
chmod +x "$tmp/as/"*
own="$tmp/my own"
own_make() { PATH=$tmp/as:$PATH make -s --no-print-directory "$@" PREFIX="$own" >"$tmp/log" 2>&1 || { cat "$tmp/log"; exit 1; }; }
for WHO in 0 1000; do
    export WHO KNOWN=/nowhere
    : >"$tmp/ldconfig"
    own_make install
    called=$(wc -l <"$tmp/ldconfig")
    [ "$(uname -s)" != Linux ] || [ $((called)) = $((WHO == 0)) ] || { echo "install as $WHO: ldconfig ran $called times"; exit 1; }
    (
        unset PKG_CONFIG_PATH LD_LIBRARY_PATH
        eval "$(sed -n 's/^    export/export/p' "$tmp/log")"
        cd "$tmp"
        eval "${CC:-cc} program.c $(pkg-config --cflags --libs kiln kiln_gguf) -o own-shared"
        expect "$(./own-shared)" "the README's program in a PREFIX with a space"
        [ "$(command -v kiln)" = "$own/bin/kiln" ] || { echo 'install does not say where the command is'; exit 1; }
        [ "$(uname -s)" = Linux ] || exit 0
        eval "${CC:-cc} -static program.c $(pkg-config --static --cflags --libs kiln) -o own-static"
        unset LD_LIBRARY_PATH
        expect "$(./own-static)" "the README's program, linked as pkg-config --static says"
    )
    : >"$tmp/ldconfig"
    own_make uninstall
    called=$(wc -l <"$tmp/ldconfig")
    [ "$(uname -s)" != Linux ] || [ $((called)) = $((WHO == 0)) ] || { echo "uninstall as $WHO: ldconfig ran $called times"; exit 1; }
    [ -z "$(find "$own" -type f)" ] || { echo "left by uninstall:"; find "$own" -type f; exit 1; }
done
# Nothing to say where all of them look there by themselves; a PREFIX that is not an absolute path is refused.
printf '#!/bin/sh\ncase $* in *pc_path*) echo "/x:%s/lib/pkgconfig" ;; esac\n' "$own" >"$tmp/as/pkg-config"
chmod +x "$tmp/as/pkg-config"
(export WHO=0 KNOWN="$own" PATH="$PATH:$own/bin" && own_make install)
! grep export "$tmp/log" || { echo 'install tells of paths that are searched anyway'; exit 1; }
(export WHO=0 && own_make uninstall)
rm "$tmp/as/pkg-config"
for target in install uninstall; do
    ! make -s --no-print-directory $target PREFIX=here >"$tmp/log" 2>&1 || { echo "$target takes a relative PREFIX"; exit 1; }
    grep -q 'PREFIX must be an absolute path' "$tmp/log" || { cat "$tmp/log"; exit 1; }
done

# On a machine without a compiler, `make deps install` installs one and builds for all CPU levels, and with warnings that
# are no errors. The package manager and the compiler are played.
[ "$(uname -s)" = Linux ] || { echo "skipped: no Linux; deps is not tried"; exit 0; }
mkdir "$tmp/play"
cat >"$tmp/play/compiler" <<'EOF'
#!/bin/sh
case $* in *-dumpmachine*) echo "$(uname -m)-linux-gnu"; exit ;; esac
echo "$*" >>"$PLAY/log"
while [ $# -gt 0 ]; do
    [ "$1" != -o ] || : >"$2"
    shift
done
EOF
cat >"$tmp/play/apt-get" <<'EOF'
#!/bin/sh
cp "$PLAY/compiler" "$PLAY/played-cc"
EOF
printf '#!/bin/sh\n[ "$1" != -n ] || shift\nexec "$@"\n' >"$tmp/play/sudo"
chmod +x "$tmp/play/"*
(
    unset MAKEFLAGS MFLAGS STRICT # of the make that runs the tests
    PLAY=$tmp/play PATH=$tmp/play:$PATH make --no-print-directory -j2 deps install CC=played-cc BUILD="$tmp/build" DESTDIR="$tmp/new" \
        PREFIX=/usr >"$tmp/log" 2>&1
) || { tail -n 20 "$tmp/log"; exit 1; }
if [ "$(uname -m)" = x86_64 ]; then
    for level in base avx2 avx512; do
        ar t "$tmp/new/usr/lib/libkiln.a" | grep -q "\.$level\.o$" || { echo "deps install: no kernels for $level"; exit 1; }
    done
fi
! grep -q -e -Werror "$tmp/play/log" || { echo "make install makes warnings errors"; exit 1; }
rm "$tmp/play/log"
PLAY=$tmp/play PATH=$tmp/play:$PATH make -s --no-print-directory STRICT=1 CC=played-cc BUILD="$tmp/strict" "$tmp/strict/libkiln_gguf.a" \
    >/dev/null
! grep -v -e -Werror "$tmp/play/log" || { echo "STRICT=1 lets warnings pass"; exit 1; }
