# The two commands are `make demo` and `make test`; each does its own set-up on a fresh Debian machine.

SHELL := /bin/bash
export PATH := $(PATH):$(HOME)/.cargo/bin:/usr/sbin:/sbin
CARGO ?= cargo
TARGET := $(or $(CARGO_TARGET_DIR),target)
LAB := $(TARGET)/debug/bulkhead-lab
# Labs need root. Who is not root builds as himself and runs labs with sudo, where there is sudo.
SUDO := $(shell [ "$$(id -u)" = 0 ] || command -v sudo)
# Seconds that `make fuzz` gives each target.
FUZZ_SECONDS ?= 60
# Packets that `make trace` asks Open vSwitch about, and where their randomness begins.
TRACE_PACKETS ?= 100000
TRACE_SEED ?= $(shell date +%s)

.PHONY: all setup build demo down test check bench fuzz trace

all: build

setup:
	@lab/setup.sh

build:
	$(CARGO) build --quiet --workspace --bins

# KEEP=1 leaves the lab up and prints how to use it; ARGS="--all" prints every cell, ARGS="--sim" the simulated switch.
demo: setup build
	$(SUDO) $(LAB) demo $(if $(KEEP),--keep) $(ARGS)

# Takes down what KEEP=1 left up.
down: build
	$(SUDO) $(LAB) down

# Tests that need root run under sudo where that asks for no password; without it they say NOT TESTED.
test: setup build
	@set -eu; \
	if [ "$$(id -u)" != 0 ] && sudo -n true 2>/dev/null; then \
	    host=$$(rustc -vV | sed -n 's/^host: //p' | tr 'a-z-' 'A-Z_'); \
	    export CARGO_TARGET_$${host}_RUNNER="sudo -E"; \
	fi; \
	if $(CARGO) nextest --version >/dev/null 2>&1; then $(CARGO) nextest run --workspace --no-fail-fast; \
	else echo "cargo-nextest is not installed; using cargo test"; $(CARGO) test --workspace --quiet --no-fail-fast; fi; \
	echo; echo "All tests passed. Real packets: $$($(SUDO) $(LAB) check || true)"

check:
	$(CARGO) fmt --all --check
	$(CARGO) clippy --quiet --workspace --all-targets --all-features -- -D warnings
	$(CARGO) xtask check
	@if $(CARGO) deny --version >/dev/null 2>&1; then $(CARGO) deny --all-features check; \
	else echo "cargo-deny is not installed; licences and advisories are not checked"; fi

# JSON on standard output.
bench: setup
	@$(CARGO) build --quiet --release --workspace --bins
	@$(SUDO) $(TARGET)/release/bulkhead-bench $(ARGS)

# Random packets in random states: what ofproto/trace says against what the interpreter says. Needs root.
trace: setup
	BULKHEAD_TRACE_PACKETS=$(TRACE_PACKETS) BULKHEAD_TRACE_SEED=$(TRACE_SEED) \
	    $(CARGO) test --quiet -p bulkhead-tests --test trace -- --nocapture

fuzz:
	@$(CARGO) fuzz --version >/dev/null 2>&1 || { echo "needs cargo-fuzz: cargo install cargo-fuzz"; exit 1; }
	@set -eu; cd tests; for target in $$($(CARGO) fuzz list); do \
	    $(CARGO) fuzz run "$$target" -- -max_total_time=$(FUZZ_SECONDS); done
