#!/usr/bin/env bash
# Runs the recipes of docs/export.md on tiny models with random weights: makes them, runs the page's own commands, imports
# what comes out, draws with each, and compares the pictures with those of diffusers. A table at the end.
#
#   scripts/export-recipes.sh [FOLDER]        with FOLDER, everything is kept there
#
# PYTHON names an interpreter that has scripts/export/requirements.txt; without it one is made in .cache (7 GB, once).
# Needs bin/worker (make build), or another in WORKER.
set -euo pipefail

die() {
    echo "export-recipes.sh: $*" >&2
    exit 1
}

root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
program=$(realpath -m "${WORKER:-$root/bin/worker}")
[ -x "$program" ] || die "$program is missing: run make build"
if [ -z "${PYTHON:-}" ]; then
    PYTHON=$root/.cache/export/bin/python
    if ! "$PYTHON" -c 'import optimum.onnxruntime, peft' 2>/dev/null; then
        python3 -m venv "$root/.cache/export"
        "$PYTHON" -m pip install --quiet --requirement "$root/scripts/export/requirements.txt"
    fi
fi
library=${IMGUS_ENGINE_LIBRARY:-$("$root/scripts/onnxruntime.sh")}

temporary=$(mktemp -d)
trap 'rm -rf "$temporary"' EXIT
mkdir "$temporary/bin"
ln -s "$program" "$temporary/bin/worker"
work=$(realpath -m "${1:-$temporary/work}")
mkdir -p "$work"
cd "$work"
[ -z "$(ls -A)" ] || die "$work is not empty"
ln -s "$root/scripts" scripts
PATH=$temporary/bin:$(dirname "$PYTHON"):$PATH
export PATH
export IMGUS_ENGINE_LIBRARY=$library IMGUS_MODELS_DIRECTORY=$work/models XDG_CACHE_HOME=$temporary/cache
export HF_HUB_OFFLINE=1 PYTHONWARNINGS=ignore # nothing is fetched from a hub

# run COMMAND…: what it prints goes into the log.
run() { "$@" >>log 2>&1 || { tail -n 40 log >&2; die "this failed: $*"; }; }

# recipe HEADING: runs the commands that the page has below a heading.
recipe() {
    awk -v heading="### $1" '
        /^#/ { below = $0 == heading }
        /^```/ { code = $0 == "```sh"; next }
        below && code' "$root/docs/export.md" >commands
    [ -s commands ] || die "docs/export.md has no recipe \"$1\""
    sed 's/^/+ /' commands
    run bash -euo pipefail commands
}

wrong=0
rows=()

# row RECIPE FOLDER IMPORT PICTURE DIFFERENCE: a line of the table.
row() { rows+=("$(printf '%-32s %7s  %-8s %-8s %s' "$1" "$(du -sh --apparent-size "$2" | cut -f1)" "${@:3}")"); }

# try RECIPE FOLDER SOURCE MOST MEAN: imports the folder and draws. The picture may differ by so much from that of diffusers.
try() {
    local difference picture=ok
    run worker models import "$2" --name "$2" --replace
    run worker models verify "$2"
    run worker generate --model "$2" --prompt "a lighthouse at dusk" --seed 42 --steps 8 --width 64 --height 64 --id "$2" --output pictures
    difference=$(python scripts/export/compare.py "source/$3.png" "pictures/$2/0.png" "$4" "$5") || picture=WRONG wrong=1
    row "$1" "$2" ok "$picture" "$difference"
}

# refused RECIPE FOLDER REASON: the import must fail for the reason.
refused() {
    local outcome=refused
    if worker models import "$2" --name "$2" >refusal 2>&1 || ! grep -q "$3" refusal; then
        outcome=WRONG wrong=1
    fi
    cat refusal >>log
    row "$1" "$2" "$outcome" - "$3"
}

echo "making tiny models"
run python scripts/export/tiny.py source

recipe "Float32"
try "SD 1.5" sd15 sd15 2 0.02
try "SDXL" sdxl sdxl 2 0.02

recipe "Half precision"
try "SD 1.5, half" sd15-half sd15 24 2
try "SDXL, half, VAE float32" sdxl-half sdxl 8 1
try "SDXL, half, vae_decoder_fp32" sdxl-half-or-wide sdxl 8 1
cp -r sdxl-half-or-wide sdxl-all-half
rm -r sdxl-all-half/vae_decoder_fp32
refused "SDXL, half, VAE too" sdxl-all-half "a picture that is not finite"

recipe "Optimised"
try "SD 1.5, optimised" sd15-fast sd15 2 0.02
try "SDXL, optimised" sdxl-fast sdxl 2 0.02
try "SDXL, optimised, half" sdxl-fast-half sdxl 8 1

recipe "Optimised for CUDA"
refused "SD 1.5, for CUDA, on the CPU" sd15-cuda "NhwcConv"

recipe "A LoRA"
try "SD 1.5 with a LoRA" sd15-lora sd15-lora 2 0.02

worker models list
printf '\n%-32s %7s  %-8s %-8s %s\n' recipe size import picture "difference: largest / mean, of 255"
printf '%s\n' "${rows[@]}"
exit "$wrong"
