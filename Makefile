# sov: see README.md. Each target prints what it does, and its result in one line.

GO       ?= go
ARCH     ?= arm64
FUZZTIME ?= 5s
SCALE    ?= 1
GOLANGCI    = github.com/golangci/golangci-lint/v2/cmd/golangci-lint@v2.15.0
ACTIONLINT  = github.com/rhysd/actionlint/cmd/actionlint@v1.7.12

# The simulated phone uses Linux namespaces.
PROGRAMS := ./cmd/sov ./cmd/sov-mirror $(if $(filter linux,$(shell $(GO) env GOOS)),./cmd/sov-simulator)

VERSION := $(shell .ci/version)
# The same sources produce the same programs on every computer.
GOBUILD := CGO_ENABLED=0 $(GO) build -trimpath -buildvcs=false

.DEFAULT_GOAL := help
.PHONY: help deps build demo test endurance interop bench fuzz reproducible release lint clean

help: ## show this list
	@awk -F ':.*## ' '/^[a-z]+:.*## / { printf "  make %-13s %s\n", $$1, $$2 }' Makefile

deps: ## install missing Debian packages
	@.ci/deps

build: ## compile the programs into bin/
	@echo "build: compiling sov-init and sov-runner (arm64, amd64), $(notdir $(PROGRAMS))"
	@SOV_VERSION=$(VERSION) $(GO) generate ./internal/host/embedded
	@$(GOBUILD) -ldflags '-s -w -X main.version=$(VERSION)' -o bin/ $(PROGRAMS)
	@echo "build: $(PROGRAMS:./cmd/%=bin/%) are ready"

demo: deps build ## build the PostgreSQL machine, boot it in QEMU, query it
	@.ci/demo $(ARCH)

test: deps build ## test every behaviour once
	@echo "test: building sql for both architectures (kernel and Tailscale are compiled once), then every test"
	@.ci/artifacts
	@.ci/test test.log ./internal/e2e/phone ./internal/e2e/docs ./... # the longest first

endurance: deps build ## repeat the tests that depend on timing: counts times SCALE
	@.ci/artifacts
	@.ci/endurance $(SCALE)

interop: deps build ## test against third-party programs and systems: registries, root file systems
	@.ci/deps debootstrap default-jdk-headless libpostgresql-jdbc-java
	@cd internal/e2e/interop && ../../../.ci/test interop.log .

bench: deps build ## measure and compare with similar tools
	@.ci/bench

fuzz: ## fuzz each parser for FUZZTIME
	@.ci/fuzz $(FUZZTIME)

reproducible: deps build ## build twice with empty caches, in two folders, and compare
	@.ci/reproducible $(ARCH)

release: ## build archives of sov for Linux and macOS in dist/, signed with $$SOV_RELEASE_KEY
	@.ci/release

lint: ## golangci-lint (vet, staticcheck, gofmt and more), actionlint, shellcheck; sov for macOS compiles
	@echo "lint: golangci-lint"
	@$(GO) run $(GOLANGCI) run ./...
	@echo "lint: the modules of some tests"
	@for file in $$(git ls-files '*/go.mod'); do $(GO) -C "$$(dirname "$$file")" vet ./... || exit 1; done
	@echo "lint: sov for macOS, CI workflows, scripts"
	@CGO_ENABLED=0 GOOS=darwin GOARCH=arm64 $(GO) build -o /dev/null ./cmd/sov
	@$(GO) run -exec 'env GOOS=darwin GOARCH=arm64' $(GOLANGCI) run --tests=false \
		$$(GOOS=darwin GOARCH=arm64 $(GO) list -deps ./cmd/sov | sed -n 's|^github.com/sovereign-sql/sov/||p')
	@$(GO) run $(ACTIONLINT) .github/workflows/*.yml docs/ci/github.yml
	@if command -v shellcheck >/dev/null; then shellcheck -x .ci/[a-z]* && shellcheck -s sh assets/module/*; fi
	@echo "lint: clean"

clean: ## remove bin/, out/ and dist/ (the cache stays: see `sov cache prune`)
	@rm -rf bin out dist internal/host/embedded/bin/*.zst
	@echo "clean: removed bin/, out/ and dist/"
