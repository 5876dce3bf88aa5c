#!/bin/sh
# tools/deps.sh [--check] PACKAGE...
# Makes sure that the named pkg-config packages are there, and a C compiler. As root (or with sudo that asks for nothing)
# on Debian and Ubuntu, and with Homebrew on macOS, it installs what is missing after saying so; elsewhere it prints the
# command. With --check it installs nothing: it says what is missing and how to get it.
set -u
check=
[ "$1" != --check ] || { check=yes; shift; }
missing=
if command -v "${PKG_CONFIG:-pkg-config}" >/dev/null 2>&1; then
    for p in "$@"; do
        "${PKG_CONFIG:-pkg-config}" --exists "$p" || missing="$missing $p"
    done
else
    missing=" pkg-config $*"
fi
# CC may have arguments, or be another compiler in front of one.
compiler=${CC:-cc}
command -v "${compiler%% *}" >/dev/null 2>&1 || missing="$missing cc"
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

# A fresh container has no lists of packages, and apt-get then knows none by name.
update=
if [ $manager = apt ]; then
    for p in $packages; do
        apt-cache show "$p" >/dev/null 2>&1 || update=yes
    done
fi
if [ $manager = brew ]; then command="brew install$packages"
else command="${update:+sudo apt-get update && }sudo apt-get install$packages"
fi
if [ -n "$check" ]; then
    echo "kiln: missing packages:$packages" >&2
    echo "kiln: run 'make deps' to install them, or" >&2
    echo "    $command" >&2
    exit 1
fi

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
        echo "    $command" >&2
        exit 1
    fi
fi
[ -z "$update" ] || echo "kiln: the lists of packages are missing or old here: apt-get update comes first"
echo "kiln: installing:$packages"
install() { $root env DEBIAN_FRONTEND=noninteractive apt-get install -y -qq $packages >/dev/null; }
if [ -z "$update" ]; then
    install 2>/dev/null && exit 0
    echo "kiln: that did not work; again after apt-get update"
fi
$root apt-get update -qq && install && exit 0
echo "kiln: apt-get cannot install:$packages (its messages are above). Is there a network?" >&2
exit 1
