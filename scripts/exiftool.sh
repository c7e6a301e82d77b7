#!/usr/bin/env bash
# Prints the path of exiftool for the tests, which read with it what the worker writes: the one on the PATH, else Debian's
# package unpacked into .cache, without root. It is a Perl program and needs nothing but Perl.
set -euo pipefail

if command -v exiftool; then
    exit 0
fi

root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
target=$root/.cache/exiftool

# fetch FOLDER: unpacks the package there. apt keeps its state in the folder too, since its own is root's.
fetch() (
    mkdir -p "$1/apt/lists/partial" "$1/apt/cache/archives/partial" "$1/files"
    cd "$1"
    apt=(apt-get -qq -o "Dir::State::lists=$1/apt/lists" -o "Dir::Cache=$1/apt/cache" -o APT::Sandbox::User=)
    "${apt[@]}" update && "${apt[@]}" download libimage-exiftool-perl && dpkg-deb -x libimage-exiftool-perl_*.deb files
)

if [ ! -x "$target/exiftool" ]; then
    mkdir -p "$root/.cache"
    temporary=$(mktemp -d "$root/.cache/.exiftool.XXXXXX")
    trap 'rm -rf "$temporary"' EXIT
    echo "fetching exiftool" >&2
    if ! command -v perl >/dev/null || ! command -v dpkg-deb >/dev/null || ! fetch "$temporary" >&2; then
        echo "exiftool.sh: no exiftool: install it (apt-get install libimage-exiftool-perl, brew install exiftool)" >&2
        exit 1
    fi
    files=$temporary/files
    printf '#!/bin/sh\nexec perl -I "%s/usr/share/perl5" "%s/usr/bin/exiftool" "$@"\n' "$target" "$target" >"$files/exiftool"
    chmod 755 "$files/exiftool"
    # The rename is the commit. When it fails because another call was faster, that one's files will do.
    mv -T "$files" "$target" 2>/dev/null || [ -d "$target" ] || exit 1
fi
echo "$target/exiftool"
