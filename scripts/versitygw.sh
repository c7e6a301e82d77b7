#!/usr/bin/env bash
# Builds the S3 server of the tests, versitygw, and prints the path of its binary. The module in scripts/versitygw pins its
# version and sums. The first build takes about a minute.
set -euo pipefail

root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
module=$root/scripts/versitygw
version=$(sed -n 's/.*github.com\/versity\/versitygw \(v[^ ]*\).*/\1/p' "$module/go.mod")
binary=$root/.cache/bin/versitygw-$version

if [ ! -x "$binary" ]; then
    echo "building versitygw $version" >&2
    mkdir -p "$root/.cache/bin"
    temporary=$binary.$$
    trap 'rm -f "$temporary"' EXIT
    CGO_ENABLED=0 GOWORK=off go build -C "$module" -mod=readonly -trimpath -ldflags='-s -w' -o "$temporary" \
        github.com/versity/versitygw/cmd/versitygw >&2 || {
        echo "versitygw.sh: versitygw $version could not be built; the lines above say why" >&2
        exit 1
    }
    mv "$temporary" "$binary"
fi
echo "$binary"
