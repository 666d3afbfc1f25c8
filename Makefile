# Everything lives in this folder: .venv, .cache and the demo. Only git, make and Python 3.11+ are needed.

SHELL := /bin/bash
VENV := .venv
BIN := $(VENV)/bin
PYTHON ?= $(shell scripts/find-python)
UV ?= uv
MINUTES ?= 60
SEED ?= 0
# One more than there are processors: tests wait for other processes, too.
WORKERS ?= $(shell echo $$(($$(getconf _NPROCESSORS_ONLN) + 1)))

export PIP_CACHE_DIR ?= $(CURDIR)/.cache/pip
export PIP_DISABLE_PIP_VERSION_CHECK := 1
# pip asks rustc for its version, and rustup's rustc writes settings into the home folder when it finds none.
export RUSTUP_HOME := $(CURDIR)/.cache/rustup
INSTALL := TMPDIR=$(CURDIR)/.cache/tmp $(BIN)/python -m pip install --quiet --no-deps --no-build-isolation
LOCKED := $(INSTALL) --require-hashes
TESTS = PYTEST_DEBUG_TEMPROOT=$$(scripts/test-folder) $(BIN)/python -m pytest -n $(WORKERS) --dist loadfile --no-loadscope-reorder

.DEFAULT_GOAL := help
.PHONY: help demo test connectors browser dagster index oldest lint torture fuzz bench docs screenshots lock clean

help: ## Show this list
	@grep -hE '^[a-z]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 12

$(BIN)/python:
	@test -n "$(PYTHON)" || exit 1
	@echo "Making $(VENV) with $(PYTHON)"
	@mkdir -p .cache/tmp
	@$(PYTHON) -m venv $(VENV) || { echo "Python cannot make a virtual environment; on Debian: apt install python3-venv" >&2; rm -rf $(VENV); exit 1; }

$(VENV)/.build: requirements/build.txt | $(BIN)/python
	@mkdir -p .cache/tmp
	@$(LOCKED) -r $<
	@touch $@

$(VENV)/.base: requirements/base.txt pyproject.toml $(VENV)/.build
	@echo "Installing smoll and what it needs (locked, with hashes)"
	@$(LOCKED) --only-binary :all: -r $<
	@$(INSTALL) --editable .
	@touch $@

$(VENV)/.demo: requirements/demo.txt $(VENV)/.base
	@$(LOCKED) -r $<
	@touch $@

$(VENV)/.dagster: requirements/dagster.txt $(VENV)/.base
	@echo "Installing Dagster"
	@$(LOCKED) --only-binary :all: -r $<
	@touch $@

$(VENV)/.dev: requirements/dev.txt $(VENV)/.demo
	@echo "Installing what the tests need"
	@$(LOCKED) --only-binary :all: -r $<
	@touch $@

demo: $(VENV)/.demo $(VENV)/.dagster ## Set up, make the flights project in ./demo, and run it
	@test -f demo/smoll.yml || $(BIN)/smoll init demo --template flights --name flights >/dev/null
	@$(BIN)/smoll --project demo run
	@echo
	@echo "First: . .venv/bin/activate && cd demo"

test: $(VENV)/.dev ## Set up what the tests need, and run them all
	@$(TESTS)

index: $(VENV)/.dev ## The tests that install real connectors from the package index
	@$(BIN)/python -m pytest -m index

.cache/oldest/.done: requirements/oldest.txt | $(VENV)/.dev
	@echo "Installing the oldest Dagster that is promised"
	@$(LOCKED) --only-binary :all: --target .cache/oldest -r $<
	@touch $@

connectors: $(VENV)/.dev ## The long form of the tests of sources: odd files, exact types, servers, connectors
	@$(TESTS) -m connectors

dagster: $(VENV)/.dev ## The long form of the tests of Dagster, smoll up and its page
	@$(BIN)/python -m pytest -n logical --dist loadfile -m dagster

browser: $(VENV)/.dev ## The pages of the demo's portal in a real browser (needs Chromium)
	@PYTEST_DEBUG_TEMPROOT=$$(scripts/test-folder) $(BIN)/python -m pytest -n logical --dist loadfile -m browser

oldest: .cache/oldest/.done ## The tests of Dagster with the oldest version that is promised
	@PYTHONPATH=$(CURDIR)/.cache/oldest $(BIN)/python -m pytest -n logical --dist loadfile -m "not torture" tests/orchestrate

lint: $(VENV)/.dev ## Style, types, import contracts
	@$(BIN)/ruff check src tests benchmarks
	@$(BIN)/ruff format --check src tests benchmarks
	@$(BIN)/mypy
	@MYPYPATH=benchmarks $(BIN)/mypy benchmarks
	@$(BIN)/lint-imports

torture: $(VENV)/.dev ## The long form of the suites of kills, readers, disks and clocks (SEED=n to repeat)
	@SEED=$(SEED) $(BIN)/python -m pytest -s -m torture

fuzz: $(VENV)/.dev ## Random and damaged files for an hour (MINUTES=n, SEED=n to repeat)
	@FUZZ_EXAMPLES=$$(( $(MINUTES) / 6 + 1 )) $(BIN)/python -m pytest tests/load/test_round_trip.py; tables=$$?; \
	MINUTES=$(MINUTES) SEED=$(SEED) $(BIN)/python -m pytest -s -m fuzz tests/fuzz && exit $$tables

bench: $(VENV)/.dev ## Every benchmark, beside its peers (see benchmarks/README.md)
	@$(BIN)/python benchmarks/run.py

docs: $(VENV)/.base ## Write the generated references anew
	@$(BIN)/python -m smoll.project.generate
	@$(BIN)/python -m smoll.cli.reference > docs/cli.md

screenshots: $(VENV)/.dev ## Take the pictures of the portal and of Dagster's page anew (needs Chromium)
	@PYTHONPATH=tests $(BIN)/python -m portal.pictures docs/images
	@PYTHONPATH=tests $(BIN)/python -m up.browser docs/images

lock: ## Resolve the dependencies anew (needs uv)
	@scripts/lock $(UV)

clean: ## Remove the environment, the caches and the demo
	rm -rf $(VENV) .cache demo .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache
