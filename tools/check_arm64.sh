#!/bin/sh
# Cross-compiles everything for arm64 and runs the tests under qemu-user. The arm64 libraries are unpacked into
# build/arm64/sysroot; nothing of the system changes but the cross compiler and the emulator, which are installed.
set -eu
if [ "$(uname -m)" = aarch64 ] || [ "$(uname -m)" = arm64 ]; then
    exec make --no-print-directory check
fi
need=
command -v aarch64-linux-gnu-gcc >/dev/null 2>&1 || need="gcc-aarch64-linux-gnu libc6-dev-arm64-cross"
command -v qemu-aarch64 >/dev/null 2>&1 || command -v qemu-aarch64-static >/dev/null 2>&1 || need="$need qemu-user"
if [ -n "$need" ]; then
    [ "$(id -u)" = 0 ] && sudo= || sudo=sudo
    echo "kiln: installing: $need"
    $sudo apt-get install -y -qq $need >/dev/null || { $sudo apt-get update -qq && $sudo apt-get install -y -qq $need >/dev/null; }
fi
build=$PWD/build/arm64
root=$build/sysroot
if [ ! -e "$root/usr/lib/aarch64-linux-gnu/libcmocka.so" ]; then
    lists=$build/apt
    mkdir -p "$lists/partial" "$root" "$build/debs"
    o="-oAPT::Architecture=arm64 -oAPT::Architectures=arm64 -oDir::State::Lists=$lists -oDebug::NoLocking=1 -oAPT::Sandbox::User=root"
    apt-get $o update -qq
    (cd "$build/debs" && apt-get $o download -qq libcjson1 libcjson-dev libcmocka0 libcmocka-dev libxxhash0 libxxhash-dev)
    for d in "$build"/debs/*.deb; do dpkg -x "$d" "$root"; done
fi
lib=$root/usr/lib/aarch64-linux-gnu
emulator=$(command -v qemu-aarch64 || command -v qemu-aarch64-static)
# Tests run through a wrapper so that the runner need not know; long ones are shortened where they allow it.
make --no-print-directory -j2 STRICT=1 check-arm64-run BUILD=build/arm64 CC=aarch64-linux-gnu-gcc AR=aarch64-linux-gnu-ar \
    PKG_CFLAGS="-isystem $root/usr/include" TEST_CFLAGS="-isystem $root/usr/include" \
    TEST_LIBS="-L$lib -lcmocka -lcjson" LDFLAGS="-Wl,-rpath-link,$lib" \
    RUNNER="$emulator -L /usr/aarch64-linux-gnu -E LD_LIBRARY_PATH=$lib"
