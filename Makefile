# The worker's tasks. `make` alone lists them.
.DEFAULT_GOAL := help
SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c

VERSION ?= $(shell git describe --tags --always --dirty 2>/dev/null || echo dev)
COMMIT ?= $(shell git rev-parse HEAD 2>/dev/null || echo unknown)
# gen2brain/webp would look for a system libwebp at start; nodynamic keeps it to its own.
export GOFLAGS := $(GOFLAGS) -tags=nodynamic
# NVIDIA's header marks calls that the binding to NVML has as deprecated, one warning for each.
export CGO_CFLAGS ?= -O2 -g -Wno-deprecated-declarations
LDFLAGS := -s -w -X main.version=$(VERSION) -X main.commit=$(COMMIT)

GOLANGCI_LINT_VERSION := v2.15.0
GOLANGCI_LINT := .cache/bin/golangci-lint-$(GOLANGCI_LINT_VERSION)

FUZZTIME ?= 10s

.PHONY: help
help: ## Show this list
	@awk 'BEGIN {FS = ":.*## "} /^[a-z0-9\/-]+:.*## / {printf "  make %-14s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

.PHONY: build
build: ## Build bin/worker
	go build -trimpath -buildvcs=false -ldflags '$(LDFLAGS)' -o bin/worker ./cmd/worker

# The prompt goes through the environment, so that no quote in it can hurt.
export PROMPT INPUT STRENGTH

.PHONY: demo
demo: build ## Draw a picture on this machine: make demo [PROMPT="…"] [INPUT=photo.jpg STRENGTH=0.6]
	@library=$${IMGUS_ENGINE_LIBRARY:-$$(scripts/onnxruntime.sh)}; \
	IMGUS_ENGINE_LIBRARY=$$library bin/worker demo --output demo-output \
		$${INPUT:+--input "$$INPUT"} $${STRENGTH:+--strength "$$STRENGTH"} $${PROMPT:+-- "$$PROMPT"}

.PHONY: services
services: ## Start a Redis and an S3 server for trying the worker (deploy/quickstart.yaml); fetches ONNX Runtime too
	scripts/onnxruntime.sh >/dev/null
	scripts/services.sh start

.PHONY: services/stop
services/stop: ## Stop them
	scripts/services.sh stop

.PHONY: test
test: ## Run every test; fetches and starts what they need
	scripts/testenv.sh go test ./...

.PHONY: test/race
test/race: ## Run every test under the race detector
	scripts/testenv.sh go test -race -timeout 30m ./...

.PHONY: test/fuzz
test/fuzz: ## Fuzz every target for a short while each: make test/fuzz [FUZZTIME=10s]
	@for package in $$(grep -rl --include='*_test.go' '^func Fuzz' . | xargs -r -n 1 dirname | sort -u); do \
		for target in $$(go test -list '^Fuzz' "$$package" | grep '^Fuzz'); do \
			echo "$$package $$target"; \
			scripts/testenv.sh go test -run '^$$' -fuzz "^$$target\$$" -fuzztime $(FUZZTIME) "$$package"; \
		done; \
	done

JOBS ?= 1000
MINUTES ?= 10
WORKERS ?= 4
RESTARTS ?= 20
SEED ?= 0

.PHONY: chaos
chaos: ## Kill workers and Redis at random under load: make chaos [JOBS=1000 MINUTES=10 WORKERS=4 RESTARTS=20 SEED=…]
	scripts/testenv.sh go test ./chaos -run '^TestChaos$$' -count=1 -v -timeout 0 -chaos.jobs=$(JOBS) -chaos.time=$(MINUTES)m \
		-chaos.workers=$(WORKERS) -chaos.restarts=$(RESTARTS) -chaos.seed=$(SEED)

.PHONY: chaos/matrix
chaos/matrix: ## Strike at every step of a job's life in every way
	scripts/testenv.sh go test ./chaos -run '^TestMatrix$$' -count=1 -timeout 30m -matrix.full

CRASHES ?= 100
CANCELS ?= 300
SOAK ?= 2000

.PHONY: engine/crashes
engine/crashes: ## Kill engines in every way while jobs run, and time the recovery: make engine/crashes [CRASHES=100]
	scripts/testenv.sh go test ./cmd/worker -run '^(TestRecovery|TestJobsSurviveTheirEngines)$$' -count=1 -v -timeout 0 -engine.crashes=$(CRASHES)

.PHONY: engine/cancels
engine/cancels: ## Cancel jobs at random moments, and time the engine: make engine/cancels [CANCELS=300]
	scripts/testenv.sh go test ./cmd/worker -run '^(TestCancelToIdle|TestCancelledJobsLeaveNothing)$$' -count=1 -v -timeout 0 -engine.cancels=$(CANCELS)

.PHONY: soak
soak: ## Do demo jobs in a row, and watch memory, goroutines and files: make soak [SOAK=2000]
	scripts/testenv.sh go test ./cmd/worker -run '^TestSoak$$' -count=1 -v -timeout 0 -engine.soak=$(SOAK)

.PHONY: test/amd64-v3
test/amd64-v3: ## Test the numbers once more with fused multiply-add allowed (needs a CPU with AVX2)
	GOAMD64=v3 go test ./inference/noise/... ./inference/scheduler/...

$(GOLANGCI_LINT):
	@echo "building golangci-lint $(GOLANGCI_LINT_VERSION)" >&2
	@mkdir -p .cache/bin/new
	GOBIN=$(CURDIR)/.cache/bin/new go install github.com/golangci/golangci-lint/v2/cmd/golangci-lint@$(GOLANGCI_LINT_VERSION)
	@mv .cache/bin/new/golangci-lint $@ && rmdir .cache/bin/new

.PHONY: lint
lint: $(GOLANGCI_LINT) ## Run the linters
	go vet ./...
	$(GOLANGCI_LINT) run
	@if command -v shellcheck >/dev/null; then shellcheck scripts/*.sh .ci/run; fi

.PHONY: lint/deploy
lint/deploy: ## Check the Dockerfile and the files of deploy/
	scripts/lint-deploy.sh

.PHONY: fmt
fmt: $(GOLANGCI_LINT) ## Format the code
	$(GOLANGCI_LINT) fmt

.PHONY: fmt/check
fmt/check: ## Fail if a file is not formatted
	@unformatted=$$(gofmt -l .); if [ -n "$$unformatted" ]; then echo "not formatted, run make fmt:"; echo "$$unformatted"; exit 1; fi

.PHONY: check
check: fmt/check lint lint/deploy test test/amd64-v3 ## What CI runs

.PHONY: bench
bench: ## Run the Go benchmarks
	scripts/testenv.sh go test -run '^$$' -bench . -benchmem ./...

.PHONY: export/recipes
export/recipes: build ## Run the export recipes of docs/export.md on tiny models; fetches their Python packages once (7 GB)
	scripts/export-recipes.sh

.PHONY: generate
generate: ## Write the generated files anew
	go generate ./...

.PHONY: clean
clean: ## Remove what was built and drawn; the downloads in .cache stay
	rm -rf bin demo-output coverage.html *.out *.prof *.test
