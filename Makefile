# `make` lists the targets. Nothing is needed but make and Python 3.11 or later: each target makes
# its own virtual environment in .venv the first time. Everything is written inside this folder.
.DEFAULT_GOAL := help
.SHELLFLAGS := -eu -c
.DELETE_ON_ERROR:
MAKEFLAGS += --no-print-directory

VENV := .venv
BIN := $(VENV)/bin
READY_TO_RUN := $(VENV)/.installed-embedded
READY_TO_DEVELOP := $(VENV)/.installed-dev
READY_TO_FUZZ := $(VENV)/.installed-fuzz
PYTHON ?=
DB ?=
ARGS ?=
# Two more than there are processors: tests of processes spend much of their time waiting.
TESTERS := $(shell expr $$(getconf _NPROCESSORS_ONLN) + 2)
SEEDS ?= 100
SEED ?= 1
MINUTES ?= 10
# `SECONDS` of the environment would be the age of a shell.
FUZZ_SECONDS := $(if $(filter command line,$(origin SECONDS)),$(SECONDS),60)

# A cache in the home directory would be a trace outside of this folder.
export PIP_NO_CACHE_DIR := 1
export PIP_DISABLE_PIP_VERSION_CHECK := 1
export PIP_ROOT_USER_ACTION := ignore

# $(call install,EXTRA,STAMP): the virtual environment with this package in it, as an editable copy.
define install
	@sh .ci/make-venv "$(VENV)" "$(PYTHON)"
	@echo "installing tasker-zmq[$(1)] into $(VENV)"
	@$(BIN)/python -m pip install --quiet --editable '.[$(1)]'
	@touch $(2)
endef

.PHONY: help
help: ## List the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-11s %s\n", $$1, $$2 }' Makefile

.PHONY: setup
setup: $(READY_TO_DEVELOP) ## Make .venv with everything for development

.PHONY: demo
demo: $(if $(wildcard $(READY_TO_DEVELOP)),$(READY_TO_DEVELOP),$(READY_TO_RUN)) ## Run 25 orders through a daemon and two workers (ARGS="--orders 100")
	@$(BIN)/tasker-zmq demo $(ARGS)

.PHONY: test
test: $(READY_TO_DEVELOP) ## Run the tests (DB=docker or DB=embedded, ARGS="-k ledger")
	@DB=$(DB) $(BIN)/python -m pytest -n $(TESTERS) $(ARGS)

.PHONY: chaos
chaos: $(if $(wildcard $(READY_TO_DEVELOP)),$(READY_TO_DEVELOP),$(READY_TO_RUN)) ## Kill and cut off real processes for a minute, and count losses (ARGS="--minutes 5")
	@$(BIN)/tasker-zmq chaos $(ARGS)

.PHONY: crashes
crashes: $(READY_TO_DEVELOP) ## Run the tests that kill processes, also the longest, and print recovery times
	@DB=$(DB) FRESH_PROCESSES=1 $(BIN)/python -m pytest -m "slow or crashes" tests/processes/test_crashes_*.py tests/processes/test_chaos.py $(ARGS)

.PHONY: bench
bench: $(READY_TO_DEVELOP) ## Measure throughput, latency and cost of ten workloads (ARGS="--only chain4 --seconds 5")
	@$(BIN)/tasker-zmq bench $(ARGS)

.PHONY: soak
soak: $(READY_TO_DEVELOP) ## Keep a steady load up, and judge memory, latency and dead rows (MINUTES=60, ARGS="--rate 50")
	@$(BIN)/python -m bench.soak --minutes $(MINUTES) $(ARGS)

.PHONY: bench-peers
bench-peers: $(READY_TO_DEVELOP) ## Measure ours beside DBOS and PgQueuer, each in an environment of its own (ARGS="--rounds 5")
	@$(BIN)/python -m bench.peers $(ARGS)

.PHONY: sim
sim: $(READY_TO_DEVELOP) ## Simulate storms in virtual time (SEEDS=1000, SEED=7 for the first, ARGS="--without loss")
	@DB=$(DB) $(BIN)/python -m tests.simulation.run --seeds $(SEEDS) --seed $(SEED) $(ARGS)

.PHONY: sim-planted
sim-planted: $(READY_TO_DEVELOP) ## Plant each known bug in turn: the simulation must find every one of them
	@DB=$(DB) $(BIN)/python -m tests.simulation.hunt $(ARGS)

.PHONY: fuzz
fuzz: $(READY_TO_FUZZ) ## Feed guided mutations to all that reads from the wire (SECONDS=600)
	@$(BIN)/python -m tests.fuzz.run --seconds $(FUZZ_SECONDS) $(ARGS)

.PHONY: check
check: $(READY_TO_DEVELOP) ## Lint, types, floors and tidiness: fast enough for every commit
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check --quiet . || { echo "not formatted as agreed; run 'make format'"; exit 1; }
	@$(BIN)/mypy
	@$(BIN)/lint-imports --no-cache
	@DB=embedded $(BIN)/python -m pytest --quiet --no-header tests/tidy

.PHONY: format
format: $(READY_TO_DEVELOP) ## Format the code and mend what ruff can mend
	@$(BIN)/ruff check --fix-only --quiet .
	@$(BIN)/ruff format --quiet .

.PHONY: docs
docs: $(READY_TO_DEVELOP) ## Write the generated pages of docs/ anew
	@$(BIN)/python docs/generate.py

.PHONY: clean
clean: ## Remove .venv, caches and built files
	rm -rf $(VENV) .peers build dist .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

$(READY_TO_RUN): pyproject.toml
	$(call install,embedded,$@)

$(READY_TO_DEVELOP): pyproject.toml
	$(call install,dev,$@)

$(READY_TO_FUZZ): $(READY_TO_DEVELOP)
	$(call install,fuzz,$@)
