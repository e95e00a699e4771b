# Everything a fresh machine needs: `make demo` and `make test` do their own set-up in .venv.
SHELL := /bin/bash
.DEFAULT_GOAL := help

# The first interpreter that really runs and is new enough (a pyenv shim can stand on PATH and not run).
PYTHON ?= $(shell for python in python3 python3.13 python3.12 python3.11 python3.14; do \
	$$python -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && echo $$python && break; done)
BIN := .venv/bin
# Nothing is cached outside the project's folder.
export PIP_NO_CACHE_DIR := 1
export PIP_DISABLE_PIP_VERSION_CHECK := 1
export MPLCONFIGDIR := $(CURDIR)/.cache/matplotlib
export TORCHINDUCTOR_CACHE_DIR := $(CURDIR)/.cache/inductor

.PHONY: help demo test test-reliability check bench docs pictures audit clean

help:
	@echo "make demo   install into .venv and compare six settings of objectives on the digits (about a minute)"
	@echo "make test   install into .venv and run every check and test"
	@echo "make test-reliability   the checks of docs/reliability.md at full size (six minutes or more)"
	@echo "make check  ruff, mypy --strict and the tests of the structure only"
	@echo "make bench  print speed ratios measured on this machine"
	@echo "make audit  look the installed packages up among the known vulnerabilities; says so where it cannot"
	@echo "make docs   build the documentation into docs/_build/html"
	@echo "make pictures   draw the pictures of the README again; with CIFAR100=path/to/cifar100 the tree of labels too"
	@echo "make clean  remove .venv, caches and what was built"

.venv/.base: pyproject.toml
	@test -n "$(PYTHON)" || { echo "labelembed needs Python 3.11 or newer and found none." \
		"Name one: make PYTHON=/path/to/python3.12 $(MAKECMDGOALS)"; exit 2; }
	@$(PYTHON) -c 'import ensurepip' 2>/dev/null || \
		{ echo "$(PYTHON) cannot make a virtual environment: install its venv package (Debian: apt install python3-venv)"; exit 2; }
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --editable '.[lab]'
	@touch $@

.venv/.test: .venv/.base
	$(BIN)/python -m pip install --quiet --editable '.[test]'
	@touch $@

.venv/.docs: .venv/.test
	$(BIN)/python -m pip install --quiet --editable '.[docs]'
	@touch $@

demo: .venv/.base
	$(BIN)/labelembed compare digits-mlp --out runs/demo

test: .venv/.test check
	$(BIN)/python -m pytest -n 2

test-reliability: .venv/.test
	LABELEMBED_RELIABILITY=full $(BIN)/python -m pytest -n 2 tests/reliability

check: .venv/.test
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/python -m pytest -q tests/test_structure.py

bench: .venv/.test
	$(BIN)/python -m benchmarks

docs: .venv/.docs
	$(BIN)/sphinx-build --fail-on-warning --keep-going -b html docs docs/_build/html

# The first screen of the demo's page needs a Chromium, the tree of labels a run of a few minutes.
pictures: .venv/.test demo
ifdef CIFAR100
	$(BIN)/python -m pip install --quiet --editable '.[hub]'
	$(BIN)/python -m benchmarks.gradient_histograms $(CIFAR100) runs/cifar100-features.npz
	$(BIN)/labelembed train vectors-mlp --data runs/cifar100-features.npz --objective label_embedding:preset=mixture --out runs/cifar100 \
		--set epochs=15 --set batch_size=100 --set "data.validation={examples: 5000}" --set optimizer.weight_decay=1.0 \
		--set "model={name: mlp, hidden_sizes: [500, 500]}"
endif
	$(BIN)/python -m benchmarks.readme_pictures --demo runs/demo/report.html $(if $(CIFAR100),--cifar100 runs/cifar100)

# Fails where a package is known to be vulnerable; without a network it says that nothing was looked up, and does not fail.
audit: .venv/.base
	@mkdir -p .cache
	@$(BIN)/python -m pip install --quiet pip-audit || \
		{ echo "audit: pip-audit cannot be installed, so nothing was looked up"; exit 0; }; \
	$(BIN)/python -m pip_audit --skip-editable --progress-spinner off >.cache/audit.txt 2>.cache/audit.errors; code=$$?; \
	cat .cache/audit.txt; tail -n 3 .cache/audit.errors; \
	if [ $$code -ne 0 ] && ! grep -q 'known vulnerabilit' .cache/audit.errors; then \
		echo "audit: the database cannot be reached, so nothing was looked up"; exit 0; fi; \
	exit $$code

clean:
	rm -rf .venv .cache docs/_build .pytest_cache .mypy_cache .ruff_cache .hypothesis
