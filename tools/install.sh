#!/bin/sh
# make install: tools/install.sh DESTDIR PREFIX VERSION BUILD SHARED SHARED_LINK HEADERS...
# make uninstall: tools/install.sh --remove DESTDIR PREFIX SHARED SHARED_LINK HEADERS...
set -eu
if [ "$1" = --remove ]; then
    root=$2$3 shared=$4 link=$5
    shift 5
    for h in "$@"; do rm -f "$root/include/kiln/$(basename "$h")"; done
    rmdir "$root/include/kiln" 2>/dev/null || true
    rm -f "$root/lib/libkiln.a" "$root/lib/libkiln_gguf.a" "$root/lib/$shared" "$root/lib/$link" \
        "$root/lib/pkgconfig/kiln.pc" "$root/lib/pkgconfig/kiln_gguf.pc" "$root/bin/kiln" "$root/share/man/man1/kiln.1" \
        "$root/share/doc/kiln/JSON.md"
    rmdir "$root/share/doc/kiln" 2>/dev/null || true
    exit 0
fi
case $2 in /*) ;; *) echo "kiln: PREFIX must be an absolute path, got '$2'" >&2; exit 1 ;; esac
destdir=$1 root=$1$2 prefix=$2 version=$3 build=$4 shared=$5 link=$6
shift 6
mkdir -p "$root/include/kiln" "$root/lib/pkgconfig" "$root/bin" "$root/share/man/man1" "$root/share/doc/kiln"
install -m 644 "$@" "$root/include/kiln/"
install -m 644 "$build/libkiln.a" "$build/libkiln_gguf.a" "$root/lib/"
install -m 755 "$build/$shared" "$root/lib/"
ln -sf "$shared" "$root/lib/$link"
install -m 755 "$build/kiln" "$root/bin/"
install -m 644 tools/kiln/kiln.1 "$root/share/man/man1/"
install -m 644 graph/JSON.md "$root/share/doc/kiln/" # which the headers and the command's messages name
cat >"$root/lib/pkgconfig/kiln.pc" <<EOF
prefix=$prefix
includedir=\${prefix}/include
libdir=\${prefix}/lib

Name: kiln
Description: embeddable dataflow graph executor
Version: $version
Libs: -L\${libdir} -lkiln
Libs.private: -lm -lpthread
Cflags: -I\${includedir}
EOF
cat >"$root/lib/pkgconfig/kiln_gguf.pc" <<EOF
prefix=$prefix
libdir=\${prefix}/lib

Name: kiln_gguf
Description: GGUF files for Kiln (static library)
Version: $version
Requires: kiln
Libs: -L\${libdir} -lkiln_gguf
EOF
echo "installed under $root"
# A fresh shared library is found by name only after this; in a staging folder it is the packager's business.
if [ -z "$destdir" ] && [ "$(uname -s)" = Linux ]; then
    if [ "$(id -u)" = 0 ] && command -v ldconfig >/dev/null 2>&1; then
        ldconfig
    else
        echo "run 'ldconfig' as root, or set LD_LIBRARY_PATH=$prefix/lib, before starting programs that use libkiln"
    fi
fi
