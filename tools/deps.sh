#!/bin/sh
# Makes sure that the named pkg-config packages are there. As root (or with sudo that asks for nothing) on Debian and
# Ubuntu, and with Homebrew on macOS, it installs what is missing after saying so; elsewhere it prints the command.
set -u
missing=
if command -v pkg-config >/dev/null 2>&1; then
    for p in "$@"; do
        pkg-config --exists "$p" || missing="$missing $p"
    done
else
    missing=" pkg-config $*"
fi
command -v "${CC:-cc}" >/dev/null 2>&1 || missing="$missing cc"
[ -z "$missing" ] && exit 0

name() { # package name of this system's package manager
    case "$1:$2" in
    apt:cc) echo gcc libc6-dev ;;
    apt:cmocka) echo libcmocka-dev ;;
    apt:pkg-config) echo pkg-config ;;
    apt:*) echo "$2-dev" ;;
    brew:libcjson) echo cjson ;;
    brew:libxxhash) echo xxhash ;;
    brew:cc) echo gcc ;;
    brew:*) echo "$2" ;;
    esac
}

if command -v apt-get >/dev/null 2>&1; then manager=apt
elif command -v brew >/dev/null 2>&1; then manager=brew
else
    echo "kiln: missing:$missing. Install their development packages and run make again." >&2
    exit 1
fi
packages=
for m in $missing; do packages="$packages $(name $manager "$m")"; done

if [ $manager = brew ]; then
    echo "kiln: installing with Homebrew:$packages"
    exec brew install $packages
fi
root=
if [ "$(id -u)" != 0 ]; then
    if command -v sudo >/dev/null 2>&1 && sudo -n true 2>/dev/null; then
        root=sudo
    else
        echo "kiln: missing packages. Run this once, then make again:" >&2
        echo "    sudo apt-get install$packages" >&2
        exit 1
    fi
fi
echo "kiln: installing:$packages"
install() { $root env DEBIAN_FRONTEND=noninteractive apt-get install -y -qq $packages >/dev/null; }
install 2>/dev/null || { $root apt-get update -qq && install; }
