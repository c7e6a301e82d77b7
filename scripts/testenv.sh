#!/usr/bin/env bash
# Runs a command with whatever the tests need: ONNX Runtime, a Redis server, an S3 server, exiftool. For instance
#
#   scripts/testenv.sh go test ./queue/...
#
# What is set already is left alone. What cannot be had is said before and after, and the tests that need it skip.
set -euo pipefail

scripts=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
missing=()

# provide VARIABLE SCRIPT WHAT: sets the variable to the path that the script prints.
provide() {
    local path
    if [ -n "${!1:-}" ]; then
        return
    fi
    if path=$("$scripts/$2"); then
        export "$1=$path"
    else
        missing+=("$3 ($1)")
    fi
}

report() {
    for what in "${missing[@]}"; do
        echo "MISSING: $what: its tests are skipped" >&2
    done
}

provide IMGUS_ENGINE_LIBRARY onnxruntime.sh "ONNX Runtime"
provide IMGUS_TEST_REDIS_SERVER redis.sh "a Redis server"
provide IMGUS_TEST_VERSITYGW versitygw.sh "an S3 server"
provide IMGUS_TEST_OPENNSFW opennsfw.sh "an image classifier"
provide IMGUS_TEST_EXIFTOOL exiftool.sh exiftool
provide IMGUS_TEST_EXAMPLES examples.sh "what the examples in Python and Node need"

# With everything there, nothing may be skipped.
if [ ${#missing[@]} -eq 0 ]; then
    export IMGUS_TEST_REQUIRE=1
fi
report
status=0
"$@" || status=$?
report
exit "$status"
