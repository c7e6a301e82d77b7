#!/usr/bin/env bash
# Fetches ONNX Runtime's shared library and prints its path, the only line on standard output.
#
#   scripts/onnxruntime.sh [cpu|cuda12|cuda13] [amd64|arm64]
#
# The library comes out of the Python wheel of ONNX Runtime's own publisher; scripts/pins holds version and SHA-256.
# A second call finds it in .cache and needs no network.
set -euo pipefail

die() {
    echo "onnxruntime.sh: $*" >&2
    exit 1
}

own="set IMGUS_ENGINE_LIBRARY to an ONNX Runtime library of your own"
variant=${1:-cpu}
arch=${2:-$(uname -m)}

case $variant in
cpu | cuda12 | cuda13) ;;
*) die "unknown variant \"$variant\": use cpu, cuda12 or cuda13" ;;
esac
[ "$(uname -s)" = Linux ] || die "only the Linux library is pinned: $own"
case $arch in
amd64 | x86_64) arch=amd64 machine=x86_64 ;;
arm64 | aarch64) arch=arm64 machine=aarch64 ;;
*) die "no library is pinned for $arch: $own" ;;
esac
[ "$variant" = cpu ] || [ "$arch" = amd64 ] || die "$variant is published for amd64 only"

root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
pins=$root/scripts/pins/onnxruntime-$variant.txt
version=$(sed -n 's/^onnxruntime[a-z-]*==\([0-9.]*\).*/\1/p' "$pins")
target=$root/.cache/onnxruntime/$version-$variant-$arch

# The providers lie beside the library, where ONNX Runtime looks for them. The notices go along for whoever ships an image.
capi=onnxruntime/capi
members=(
    "$capi/libonnxruntime.so.$version=libonnxruntime.so"
    onnxruntime/LICENSE=LICENSE
    onnxruntime/ThirdPartyNotices.txt=ThirdPartyNotices.txt
)
if [ "$variant" != cpu ]; then
    members+=(
        "$capi/libonnxruntime_providers_shared.so=libonnxruntime_providers_shared.so"
        "$capi/libonnxruntime_providers_cuda.so=libonnxruntime_providers_cuda.so"
    )
fi

if [ ! -d "$target" ]; then
    "$root/scripts/wheel.sh" "$pins" "$machine" "$target" "${members[@]}" || die "ONNX Runtime $version is missing. Or $own"
fi
echo "$target/libonnxruntime.so"
