#!/bin/sh
# Prints the folder of ggml's shared libraries for benchmarks: $KILN_PEER, or what an npm package ships, unpacked into the folder
# given. Prints nothing, and succeeds, where there is no network or no such package: the benchmark then runs alone.
set -u
version=3.22.1
if [ -n "${KILN_PEER:-}" ]; then
    echo "$KILN_PEER"
    exit 0
fi
case $(uname -s)-$(uname -m) in
Linux-x86_64) name=linux-x64 ;;
Linux-aarch64) name=linux-arm64 ;;
Darwin-arm64) name=mac-arm64-metal ;;
Darwin-x86_64) name=mac-x64 ;;
*) exit 0 ;;
esac
mkdir -p "$1" && folder=$(cd "$1" && pwd)/$name-$version || exit 0
if [ ! -d "$folder" ]; then
    mkdir -p "$folder.part" && cd "$folder.part" || exit 0
    url=https://registry.npmjs.org/@node-llama-cpp/$name/-/$name-$version.tgz
    { curl -fsSL --max-time 120 "$url" -o package.tgz || wget -q -T 120 "$url" -O package.tgz; } 2>/dev/null &&
        tar xzf package.tgz && rm package.tgz && cd .. && mv "$folder.part" "$folder" || exit 0
fi
for libraries in "$folder"/package/bins/*/; do
    [ -d "$libraries" ] && echo "$libraries"
    break
done
