#!/bin/sh
# make install: tools/install.sh DESTDIR PREFIX VERSION BUILD SHARED SHARED_LINK HEADERS...
# make uninstall: tools/install.sh --remove DESTDIR PREFIX SHARED SHARED_LINK HEADERS...
set -eu

absolute() {
    case $1 in /*) ;; *) echo "kiln: PREFIX must be an absolute path, got '$1'" >&2; exit 1 ;; esac
    # kiln.pc and the lines to export hold it in quotes.
    case $1 in *[\"\$\`\\]*) echo "kiln: PREFIX must not hold quotes, \$ or backslashes, got '$1'" >&2; exit 1 ;; esac
}
# The loader finds libraries by name only through a cache. In a staging folder that is the packager's business.
refresh_cache() { # DESTDIR
    [ -z "$1" ] && [ "$(uname -s)" = Linux ] && [ "$(id -u)" = 0 ] && command -v ldconfig >/dev/null 2>&1 || return 0
    ldconfig
}

if [ "$1" = --remove ]; then
    absolute "$3"
    destdir=$2 root=$2$3 shared=$4 link=$5
    shift 5
    for h in "$@"; do rm -f "$root/include/kiln/$(basename "$h")"; done
    rmdir "$root/include/kiln" 2>/dev/null || true
    rm -f "$root/lib/libkiln.a" "$root/lib/libkiln_gguf.a" "$root/lib/$shared" "$root/lib/$link" \
        "$root/lib/pkgconfig/kiln.pc" "$root/lib/pkgconfig/kiln_gguf.pc" "$root/bin/kiln" "$root/share/man/man1/kiln.1" \
        "$root/share/doc/kiln/JSON.md"
    rmdir "$root/share/doc/kiln" 2>/dev/null || true
    refresh_cache "$destdir"
    exit 0
fi
absolute "$2"
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
Libs: -L"\${libdir}" -lkiln
Libs.private: -lm -lpthread
Cflags: -I"\${includedir}"
EOF
cat >"$root/lib/pkgconfig/kiln_gguf.pc" <<EOF
prefix=$prefix
libdir=\${prefix}/lib

Name: kiln_gguf
Description: GGUF files for Kiln (static library)
Version: $version
Requires: kiln
Libs: -L"\${libdir}" -lkiln_gguf
EOF
echo "installed under $root"
[ -z "$destdir" ] || exit 0
refresh_cache "$destdir"

# What does not look under PREFIX by itself.
within() { case ":$1:" in *":$2:"*) return 0 ;; esac; return 1; } # LIST FOLDER
set_path() { printf '    export %s="%s${%s:+:$%s}"\n' "$1" "$2" "$1" "$1"; }
exports=
within "$(pkg-config --variable pc_path pkg-config 2>/dev/null)" "$prefix/lib/pkgconfig" ||
    exports=$(set_path PKG_CONFIG_PATH "$prefix/lib/pkgconfig")
# On macOS the library carries its own path. ldconfig is where users other than root may not look for it.
if [ "$(uname -s)" = Linux ] && ! PATH=$PATH:/sbin:/usr/sbin ldconfig -p 2>/dev/null | grep -qF "=> $prefix/lib/$shared"; then
    exports="$exports
$(set_path LD_LIBRARY_PATH "$prefix/lib")"
fi
within "$PATH" "$prefix/bin" || exports="$exports
$(set_path PATH "$prefix/bin")"
[ -n "$exports" ] || exit 0
echo "Compilers and programs do not look there by themselves. Before you use it:"
printf '%s\n' "$exports" | sed '/^$/d'
case $prefix in *[[:space:]]*)
    echo 'The path has a space, so the shell must read what pkg-config prints:'
    echo '    eval "cc program.c $(pkg-config --cflags --libs kiln)"' ;;
esac
