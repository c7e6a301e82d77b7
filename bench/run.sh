#!/usr/bin/env bash
# Compares the engine with optimum-onnx and with the bare calls of ONNX Runtime, in one run: rounds alternate, medians are
# divided. Times mean little on a busy machine, ratios more.
#
#   bench/run.sh [ROUNDS]
#
# The Python side is optional: PYTHON names an interpreter that has bench/requirements.txt.
set -euo pipefail

cd "$(dirname "${BASH_SOURCE[0]}")/.."
rounds=${1:-5}
python=${PYTHON:-python3}
binary=$PWD/.cache/bin/engine.test

go test -c -o "$binary" ./inference/local

# go_bench NAME: nanoseconds per operation of one benchmark.
go_bench() {
    (cd inference/local && "$binary" -test.run '^$' -test.bench "^$1\$" -test.benchtime "${2:-30x}") |
        awk '/ns\/op/ {print int($3)}'
}

median() { sort -n | awk '{v[NR] = $1} END {print v[int((NR + 1) / 2)]}'; }

ratio() { awk -v a="$1" -v b="$2" 'BEGIN {printf "%.3f", a / b}'; }

report() { # TITLE OURS THEIRS
    printf '%-62s %8.1f ms %8.1f ms   ratio %s\n' "$1" "$(ratio "$2" 1000000)" "$(ratio "$3" 1000000)" "$(ratio "$2" "$3")"
}

job=() bare=() sd1=() optimum=()
with_python=no
if "$python" -c 'import optimum.onnxruntime' 2>/dev/null; then
    with_python=yes
fi
for _ in $(seq "$rounds"); do
    job+=("$(go_bench BenchmarkJob/demo 5x)")
    bare+=("$(go_bench BenchmarkBareCalls/demo 5x)")
    if [ "$with_python" = yes ]; then
        sd1+=("$(go_bench BenchmarkJob/sd1)")
        optimum+=("$("$python" bench/with_optimum.py 2>/dev/null)")
    fi
done

report "demo job / its bare ONNX Runtime calls" "$(printf '%s\n' "${job[@]}" | median)" "$(printf '%s\n' "${bare[@]}" | median)"
if [ "$with_python" = yes ]; then
    report "20 steps of sd1 at 64 x 64 / optimum-onnx" "$(printf '%s\n' "${sd1[@]}" | median)" "$(printf '%s\n' "${optimum[@]}" | median)"
else
    echo "optimum-onnx: skipped; set PYTHON to an interpreter with bench/requirements.txt"
fi
