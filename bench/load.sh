#!/usr/bin/env bash
# Compares loading a large model with ONNX Runtime's Python package: time and peak memory, in alternating rounds.
#
#   PYTHON=… bench/load.sh MODEL.onnx [ROUNDS]
#
# bench/large_unet.py writes a UNet of Stable Diffusion 1.5's size. PYTHON is an interpreter with bench/requirements.txt.
set -euo pipefail

model=$(realpath "$1")
rounds=${2:-5}
cd "$(dirname "${BASH_SOURCE[0]}")/.."
python=${PYTHON:-python3}
library=${IMGUS_ENGINE_LIBRARY:-$(scripts/onnxruntime.sh)}
binary=.cache/bin/load
go build -o "$binary" ./bench/load

median() { sort -n | awk '{v[NR] = $1} END {print v[int((NR + 1) / 2)]}'; }

cat "$model"* >/dev/null # into the page cache, for both
for _ in $(seq "$rounds"); do
    "$python" bench/load.py "$model" >>.cache/load-theirs
    "$binary" "$library" "$model" >>.cache/load-ours
done
for what in "1 seconds" "2 MiB"; do
    column=${what%% *}
    ours=$(cut -d' ' -f"$column" .cache/load-ours | median)
    theirs=$(cut -d' ' -f"$column" .cache/load-theirs | median)
    awk -v a="$ours" -v b="$theirs" -v u="${what#* }" 'BEGIN {printf "%-8s ours %8.2f   python %8.2f   ratio %.3f\n", u, a, b, a / b}'
done
rm -f .cache/load-ours .cache/load-theirs
