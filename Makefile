# What one types in this project. Every target installs what it needs first (Debian 12, as root) and is quick the
# second time. `make help` lists them.

SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help
.PHONY: help setup build release demo demo-collector demo-kubernetes test test-rust test-collector test-kubernetes test-capabilities test-manifests test-signals test-prometheus kubernetes prometheus bench bench-identity bench-replay fuzz lab matrix fmt lint doc causes licences static image-root image sbom audit test-image clean-lab

CARGO := scripts/cargo.sh
# The lab and its agent are built once, in the profile the tests use; the benchmark measures optimised ones.
BIN := $(or $(CARGO_TARGET_DIR),target)
LAB := $(BIN)/debug/lab

help: ## This list
	@sed -n 's/^\([a-z-]*\):.*## \(.*\)/\1\t\2/p' $(MAKEFILE_LIST) | awk -F '\t' '{ printf "  make %-17s %s\n", $$1, $$2 }'

setup: ## Install what is missing: compilers, the eBPF linker, the lab's tools
	@scripts/setup.sh

build: setup
	@scripts/quietly.sh "building the agent and the lab (the first time one to two minutes)" \
	    $(CARGO) build --locked --package synspan --package synspan-lab --bins

release: setup ## Build the agent and the lab optimised, into target/release
	$(CARGO) build --release --locked --package synspan --package synspan-lab --bins

demo: ## Reproduce the port reuse on this machine and show what synspan says about it
	@scripts/demo.sh $(LAB) $(ARGS)

demo-collector: build ## The same, and what an OpenTelemetry Collector received
	@scripts/demo-collector.sh

demo-kubernetes: build ## The same, with names from a real Kubernetes API server
	@scripts/demo-kubernetes.sh $(LAB) $(ARGS)

test: test-rust test-capabilities test-collector test-signals test-prometheus test-manifests test-kubernetes ## All tests but those of the image: unit, lab scenarios (root), with a real Collector, with a real API server

test-rust: build
	$(CARGO) test --workspace --exclude synspan-ebpf --locked
	@# The variant without live capture, which needs no bpf-linker; apart, since the lab wants the other's program.
	$(CARGO) test --package synspan --no-default-features --locked --target-dir $(BIN)/replay

test-collector: build ## Only those with a real Collector
	@scripts/test-collector.sh $(LAB)

test-signals: build ## Only those of spans, records and metrics together, with a real Collector
	@scripts/test-signals.sh $(LAB)

test-prometheus: build ## Only those with a real Prometheus: the alerts, the documents' queries, and what real agents tell it
	@scripts/test-prometheus.sh
	@scripts/test-replicas.sh $(LAB)

test-kubernetes: build ## Only those with a real Kubernetes API server
	@scripts/test-kubernetes.sh $(LAB)
	@scripts/test-identity.sh $(LAB)

test-capabilities: build ## Only those with the capabilities of the DaemonSet, and with each of them taken away
	@scripts/test-capabilities.sh $(LAB)

test-manifests: build ## Only those of k8s/: applied to a real Kubernetes API server, and its configurations checked
	@scripts/test-manifests.sh $(BIN)/debug/synspan

test-image: build ## Those of the static program and the image's contents; apart, since that program takes so long to build
	@scripts/test-image.sh $(LAB)

kubernetes: setup ## Build the Kubernetes API server of the tests, once: three to five minutes
	@scripts/kubernetes.sh

prometheus: setup ## Build the Prometheus of the tests, once: about two minutes
	@scripts/prometheus.sh

bench: release ## Cost per connection, beside tcplife, tcpstates and conntrack -E, and with all signals to a Collector; reports in target/bench/
	@scripts/bench.sh $(BIN)/release/lab $(ARGS)

bench-identity: release ## What names from a Kubernetes API server add to a connection's cost
	@scripts/lab-kubernetes.sh $(BIN)/release/lab bench identity $(ARGS)

bench-replay: setup ## Replay of a capture of 1 GiB beside tshark: time and memory
	@scripts/bench-replay.sh

fuzz: setup ## Fuzz what reads bytes from outside: make fuzz TIME=20 ARGS="tracker config"; fuzz/README.md says more
	@TIME="$(or $(TIME),20)" scripts/fuzz.sh $(ARGS)

lab: build ## The fault lab: make lab ARGS="run NAME"; without ARGS the list of scenarios
	@$(LAB) $(or $(ARGS),list)

matrix: build ## All scenarios, five times each: cause expected by cause reported; target/matrix.json
	@$(LAB) matrix --out $(BIN)/matrix.json $(ARGS)

fmt: ## Format the code
	@scripts/setup.sh --lint
	$(CARGO) fmt --all

lint: ## Formatting, clippy with and without default features, shellcheck; all warnings are errors
	@scripts/setup.sh --lint
	$(CARGO) fmt --all --check
	$(CARGO) clippy --workspace --exclude synspan-ebpf --all-targets --locked -- -D warnings
	$(CARGO) clippy --package synspan --no-default-features --all-targets --locked -- -D warnings
	shellcheck -x -P SCRIPTDIR scripts/*.sh tests/kubernetes/*.sh tests/image/*.sh .ci/run

doc: setup ## The code's reference in target/doc; broken links are errors
	RUSTDOCFLAGS="-D warnings" $(CARGO) doc --workspace --exclude synspan-ebpf --no-deps --document-private-items --locked

causes: setup ## Make docs/causes.md from the table of causes
	$(CARGO) run --quiet --locked --package synspan -- causes > target/causes.md
	mv target/causes.md docs/causes.md

schema: setup ## Make exporter/src/names.rs and docs/telemetry.md from config/schema/
	$(CARGO) run --quiet --locked --package synspan-schema -- generate

licences: setup ## Check that every dependency's licence is on the list
	@scripts/licences.sh

static: ## The program as one static file in target/static/ARCH: make static ARGS=arm64 for another architecture
	@scripts/static.sh $(ARGS)

image-root: ## All that is in the container image, in target/image/ARCH; ARGS=arm64
	@scripts/image-root.sh $(ARGS)

image: ## The container image, by podman, buildah or docker; ARGS="amd64 arm64"
	@scripts/image.sh $(ARGS)

sbom: ## What the program is made of, as CycloneDX in target/sbom; ARGS=arm64
	@scripts/sbom.sh $(ARGS)

audit: ## Whether there are advisories about a version in Cargo.lock; AUDIT_DB=DIR where the database cannot be fetched
	@AUDIT_DB="$(AUDIT_DB)" scripts/audit.sh

clean-lab: ## Take away what an interrupted lab left behind
	@if [ -x $(LAB) ]; then $(LAB) clean; elif [ -x $(BIN)/release/lab ]; then $(BIN)/release/lab clean; \
	else echo "the lab was never built here: nothing to clean"; fi
