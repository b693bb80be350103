# The two commands are `make demo` and `make test`; each does its own set-up on a fresh Debian machine.

SHELL := /bin/bash
export PATH := $(PATH):$(HOME)/.cargo/bin:/usr/sbin:/sbin
CARGO ?= cargo
TARGET := $(or $(CARGO_TARGET_DIR),target)
LAB := $(TARGET)/debug/bulkhead-lab
# Labs need root. Who is not root builds as himself and runs labs with sudo, where there is sudo.
SUDO := $(shell [ "$$(id -u)" = 0 ] || command -v sudo)
# Has tests run under sudo where that is needed, and asks for no password.
AS_ROOT := if [ "$$(id -u)" != 0 ] && sudo -n true 2>/dev/null; then \
    host=$$(rustc -vV | sed -n 's/^host: //p' | tr 'a-z-' 'A-Z_'); \
    export CARGO_TARGET_$${host}_RUNNER="sudo -E"; fi
# Packets that `make trace` asks Open vSwitch about, and that `make laws` walks; and where their randomness begins.
TRACE_PACKETS ?= 100000
LAWS_PACKETS ?= 10000000
SEED ?= $(shell date +%s)
# Inputs that `make fuzz` gives each target, and edits that `make edits` makes.
FUZZ_EXECUTIONS ?= 10000000
EDITS ?= 1000000
# The version of schemathesis that is installed for `make schemathesis`.
SCHEMATHESIS := 4.32.5
# How often `make crashes` kills.
KILLS ?= 300
# What libFuzzer needs to see which code an input reaches.
COVERAGE := -Cpasses=sancov-module -Cllvm-args=-sanitizer-coverage-level=4 \
    -Cllvm-args=-sanitizer-coverage-inline-8bit-counters -Cllvm-args=-sanitizer-coverage-pc-table \
    -Cllvm-args=-sanitizer-coverage-trace-compares -Ccodegen-units=1 --cfg fuzzing

# How `make deb` builds; dev is quicker.
PROFILE ?= release
BUILT = $(TARGET)/$(if $(filter dev,$(PROFILE)),debug,$(PROFILE))

.PHONY: all setup build deb deb-test demo down test check schemathesis bench bench-quick crashes mininet soak fuzz fuzz-coverage edits trace laws

all: build

setup:
	@lab/setup.sh

build:
	$(CARGO) build --quiet --workspace --bins

# A Debian package of the controller and its command, in target/debian.
deb:
	@$(CARGO) deb --version >/dev/null 2>&1 || $(CARGO) install --quiet --locked cargo-deb
	$(CARGO) build --quiet --profile $(PROFILE) --package bulkhead-daemon --package bulkhead-cli --bins
	@rm -rf $(BUILT)/package && mkdir -p $(BUILT)/package/man && $(BUILT)/bulkhead man $(BUILT)/package/man
	@for shell in bash zsh fish; do $(BUILT)/bulkhead completions $$shell > $(BUILT)/package/bulkhead.$$shell; done
	$(CARGO) deb --quiet --package bulkhead-daemon --no-build --profile $(PROFILE)

# Installs it in a Debian of its own, starts it by systemd, kills, upgrades, removes and purges it. Needs root.
deb-test: deb
	@$(SUDO) packaging/test.sh $$(ls -t $(TARGET)/debian/bulkhead_*.deb | head -1)

# KEEP=1 leaves the lab up and prints how to use it; ARGS="--all" prints every cell, ARGS="--sim" the simulated switch.
demo: setup build
	$(SUDO) $(LAB) demo $(if $(KEEP),--keep) $(ARGS)

# Takes down what KEEP=1 left up.
down: build
	$(SUDO) $(LAB) down

# Tests that need root run under sudo where that asks for no password; without it they say NOT TESTED. Programs are built
# with them: on their own they would be built twice, because tests want more of some libraries.
test: setup
	@$(CARGO) build --quiet --workspace --all-targets
	@set -eu; $(AS_ROOT); \
	if $(CARGO) nextest --version >/dev/null 2>&1; then $(CARGO) nextest run --workspace --no-fail-fast; \
	else echo "cargo-nextest is not installed; using cargo test"; \
	    $(CARGO) test --workspace --exclude bulkhead-tests --quiet --no-fail-fast; \
	    $(CARGO) test -p bulkhead-tests --quiet --no-fail-fast -- --test-threads=1; fi; \
	echo; echo "All tests passed. Real packets: $$($(SUDO) $(LAB) check || true)"

check:
	$(CARGO) fmt --all --check
	$(CARGO) clippy --quiet --workspace --all-targets --all-features -- -D warnings
	$(CARGO) xtask check
	@if $(CARGO) deny --version >/dev/null 2>&1; then $(CARGO) deny --all-features check; \
	else echo "cargo-deny is not installed; licences and advisories are not checked"; fi

# The API against its own description (docs/openapi.json), over TLS, by requests that schemathesis makes up; ARGS for its
# options, as in ARGS="--phases fuzzing --max-examples 1000". Needs Python, and the network once.
schemathesis:
	@$(CARGO) build --quiet -p bulkhead-daemon
	@[ -e $(TARGET)/schemathesis/$(SCHEMATHESIS) ] || { python3 -m venv --clear $(TARGET)/schemathesis && \
	    $(TARGET)/schemathesis/bin/pip install --quiet schemathesis==$(SCHEMATHESIS) && \
	    touch $(TARGET)/schemathesis/$(SCHEMATHESIS); }
	@$(TARGET)/schemathesis/bin/python tests/openapi.py $(TARGET)/debug/bulkheadd $(ARGS)

# JSON on standard output.
bench: setup
	@$(CARGO) build --quiet --release --workspace --bins
	@$(SUDO) $(TARGET)/release/bulkhead-bench $(ARGS)

# Ratios that say little about the machine, held against the checked-in ones. ARGS=--write takes them anew.
bench-quick: setup
	@$(CARGO) build --quiet --release --workspace --bins
	@$(SUDO) $(TARGET)/release/bulkhead-bench --quick tests/bench-quick.json $(ARGS)

# Mininet's topologies under Bulkhead, in namespaces of their own, and the conformance tests' packets through one;
# ARGS="tree" for one topology alone.
mininet: build
	@lab/setup.sh mininet
	@$(SUDO) lab/mininet/run.sh $(TARGET)/debug $(ARGS)
	@[ -n "$(ARGS)" ] || { $(AS_ROOT); \
	    $(CARGO) test --quiet -p bulkhead-tests --test conformance -- --exact over_links_of_mininet --nocapture; }

# Killed at 300 random moments under the edits of eight clients, every other time while it recovers: the store alone, on
# each engine, and the whole controller.
crashes: setup build
	BULKHEAD_KILLS=$(KILLS) $(CARGO) test --quiet --package bulkhead-store --features store-sled --test crash -- --nocapture
	BULKHEAD_KILLS=$(KILLS) $(CARGO) test --quiet --package bulkhead-tests --test store -- --nocapture

# Half an hour of label flips, policy edits and broken connections; ARGS="--seconds 60" for less.
soak: setup
	@$(CARGO) build --quiet --release --workspace --bins
	@$(SUDO) $(TARGET)/release/bulkhead-soak $(ARGS)

# Random packets in random states: what ofproto/trace says against what the interpreter says. Needs root.
trace: setup
	BULKHEAD_TRACE_PACKETS=$(TRACE_PACKETS) BULKHEAD_TRACE_SEED=$(SEED) \
	    $(CARGO) test --quiet -p bulkhead-tests --test trace -- --nocapture

# Random packets in random states: what the interpreter says against what the policy means.
laws:
	BULKHEAD_LAWS_PACKETS=$(LAWS_PACKETS) BULKHEAD_LAWS_SEED=$(SEED) \
	    $(CARGO) test --quiet --release -p bulkhead-compile --test it laws:: -- --ignored --nocapture

# A fixed sequence of inputs for every decoder and parser; what breaks one is kept in tests/fuzz/regressions.
# ARGS="flow_text --seed 2" runs one target from another beginning.
fuzz:
	@$(CARGO) run --quiet --release --package bulkhead-fuzz -- --executions $(FUZZ_EXECUTIONS) $(ARGS)

# The same targets under libFuzzer, which looks for inputs that reach new code; needs a C++ compiler.
fuzz-coverage:
	@set -eu; cd tests/fuzz; \
	RUSTFLAGS="$(COVERAGE)" $(CARGO) build --quiet --release --manifest-path libfuzzer/Cargo.toml \
	    --target $$(rustc -vV | sed -n 's/^host: //p') --target-dir libfuzzer/target; \
	for target in $(or $(ARGS),$$(ls corpus)); do mkdir -p libfuzzer/corpus/$$target regressions/$$target; \
	    BULKHEAD_FUZZ_TARGET=$$target libfuzzer/target/*/release/bulkhead-libfuzzer -runs=$(FUZZ_EXECUTIONS) \
	        -max_len=4096 -artifact_prefix=regressions/$$target/ libfuzzer/corpus/$$target corpus/$$target; done

# A million random edits, each compared with compiling from nothing.
edits:
	@BULKHEAD_EDITS=$(EDITS) $(CARGO) test --quiet --release --package bulkhead-compile --test it edits:: -- --nocapture
