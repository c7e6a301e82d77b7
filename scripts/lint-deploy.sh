#!/usr/bin/env bash
# Checks the files of deploy/ and the Dockerfile as far as that can be done without a cluster or a container engine:
# hadolint, the Compose Specification, the Kubernetes schemas, and systemd's own verifier where it is installed.
# The checkers are pinned and stay in .cache.
set -euo pipefail

root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
cd "$root"

pins=scripts/pins/lint-deploy.txt
tools=.cache/lint-deploy/$(sha256sum "$pins" | cut -c 1-12)
if [ ! -d "$tools" ]; then
    rm -rf "$tools.new"
    python3 -m venv "$tools.new"
    "$tools.new/bin/pip" install --quiet --disable-pip-version-check --requirement "$pins"
    mv "$tools.new" "$tools"
fi
compose=.cache/bin/compose-$(grep -o "compose-go/v2 v[^ ]*" scripts/compose/go.mod | head -n 1 | cut -d " " -f 2)
if [ ! -x "$compose" ]; then
    mkdir -p .cache/bin
    GOFLAGS='' go build -C scripts/compose -mod=readonly -trimpath -o "$root/$compose" github.com/compose-spec/compose-go/v2/cmd
fi

"$tools/bin/hadolint" Dockerfile
"$compose" deploy/compose.yaml >/dev/null
# The kinds of KEDA, kustomize and the Prometheus Operator have no schema here.
resources=()
for file in deploy/kubernetes/*.yaml; do
    case ${file##*/} in kustomization.yaml | worker.yaml | scaling.yaml | podmonitor.yaml) ;; *) resources+=("$file") ;; esac
done
"$tools/bin/python" -m kubernetes_validate --quiet --strict -k 1.33.0 "${resources[@]}"
if command -v systemd-analyze >/dev/null; then
    # That the program is not installed here is no fault of the unit.
    problems=$(systemd-analyze verify deploy/systemd/imgus-worker.service 2>&1 | grep -v 'is not executable: No such file' || true)
    [ -z "$problems" ] || { echo "$problems"; exit 1; }
else
    echo "systemd-analyze is not here: the unit is not checked" >&2
fi
