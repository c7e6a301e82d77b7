#!/usr/bin/env bash
# Fetches ONNX Runtime's shared library and prints its path, the only line on standard output.
#
#   scripts/onnxruntime.sh [cpu|cuda12|cuda13] [amd64|arm64]
#
# The library comes out of the Python wheel of ONNX Runtime's own publisher. Version and SHA-256 are pinned in
# scripts/onnxruntime/VARIANT.txt and checked by pip. Python is only the downloader: the wheel's Python version is fixed
# here, so any Python 3 with pip will do. A second call finds the library in .cache and needs no network.
set -euo pipefail

die() {
    echo "onnxruntime.sh: $*" >&2
    exit 1
}

variant=${1:-cpu}
arch=${2:-$(uname -m)}

case $variant in
cpu | cuda12 | cuda13) ;;
*) die "unknown variant \"$variant\": use cpu, cuda12 or cuda13" ;;
esac
case $arch in
amd64 | x86_64) arch=amd64 machine=x86_64 ;;
arm64 | aarch64) arch=arm64 machine=aarch64 ;;
*) die "no ONNX Runtime is pinned for $arch: set IMGUS_ENGINE_LIBRARY to a libonnxruntime.so of your own" ;;
esac
if [ "$(uname -s)" != Linux ]; then
    die "only the Linux library is pinned: set IMGUS_ENGINE_LIBRARY to an ONNX Runtime library of your own"
fi
if [ "$variant" != cpu ] && [ "$arch" != amd64 ]; then
    die "$variant is published for amd64 only"
fi

root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
pins=$root/scripts/onnxruntime/$variant.txt
version=$(sed -n 's/^onnxruntime[a-z-]*==\([0-9.]*\).*/\1/p' "$pins")
cache=$root/.cache/onnxruntime
target=$cache/$version-$variant-$arch
library=$target/libonnxruntime.so

if [ -f "$library" ]; then
    echo "$library"
    exit 0
fi

python3 -c '' 2>/dev/null || die "Python 3 is needed to fetch ONNX Runtime: install python3 and python3-pip"
python3 -m pip --version >/dev/null 2>&1 ||
    die "pip is needed to fetch ONNX Runtime: install python3-pip (or run: python3 -m ensurepip --user)"

mkdir -p "$cache"
temporary=$(mktemp -d "$cache/.fetch.XXXXXX")
trap 'rm -rf "$temporary"' EXIT

echo "fetching ONNX Runtime $version ($variant, $arch)" >&2
quiet=--quiet
if [ -t 2 ]; then
    quiet=--progress-bar=on
fi
if ! PIP_REQUIRE_VIRTUALENV=0 python3 -m pip download "$quiet" --disable-pip-version-check --no-deps \
    --require-hashes --requirement "$pins" --only-binary :all: --dest "$temporary/wheel" \
    --implementation cp --python-version 3.12 --abi cp312 --platform "manylinux_2_28_$machine" >&2; then
    die "pip could not fetch ONNX Runtime $version. Is there a network? Behind a proxy set HTTPS_PROXY; for a mirror set PIP_INDEX_URL." \
        "Or set IMGUS_ENGINE_LIBRARY to a libonnxruntime.so $version of your own."
fi

# The providers stay beside the library, where ONNX Runtime looks for them. The notices go along for whoever ships an image.
python3 - "$temporary" "$version" "$variant" <<'PYTHON' || die "the wheel of ONNX Runtime $version could not be unpacked"
import glob, os, shutil, sys, zipfile

temporary, version, variant = sys.argv[1:]
members = {
    f"onnxruntime/capi/libonnxruntime.so.{version}": "libonnxruntime.so",
    "onnxruntime/LICENSE": "LICENSE",
    "onnxruntime/ThirdPartyNotices.txt": "ThirdPartyNotices.txt",
}
if variant != "cpu":
    for name in ("libonnxruntime_providers_shared.so", "libonnxruntime_providers_cuda.so"):
        members[f"onnxruntime/capi/{name}"] = name
os.mkdir(f"{temporary}/library")
(wheel,) = glob.glob(f"{temporary}/wheel/*.whl")
with zipfile.ZipFile(wheel) as archive:
    for member, name in members.items():
        with archive.open(member) as source, open(f"{temporary}/library/{name}", "wb") as sink:
            shutil.copyfileobj(source, sink)
PYTHON

# The rename makes the folder appear whole or not at all. When it fails because another call was faster, that one's will do.
chmod 755 "$temporary/library"
mv -T "$temporary/library" "$target" 2>/dev/null || [ -f "$library" ] || die "cannot write $target"
echo "$library"
