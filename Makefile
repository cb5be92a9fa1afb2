# jaxsci: `make run` on a fresh clone is all it takes. `make help` lists the rest.
#
#   ARGS    passed on to the command:   make run ARGS="experiment=assimilation seed=1"
#   PYTHON  the interpreter to build the environment with, at least 3.11; found by itself if not given

SHELL := /bin/bash
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
UNFINISHED := $(VENV)/.installing
WORKERS ?= 2
PYTHON ?=
ARGS ?=

# Whether $$python runs, is new enough and can make environments. Running it is the only test that counts: a shim
# may be on the path for a version that is not there.
USABLE := "$$python" -c 'import sys, venv, ensurepip; sys.exit(sys.version_info < (3, 11))' >/dev/null 2>&1

.DEFAULT_GOAL := help
.PHONY: help env run test test-all test-faults lint format docs lock clean

help: ## this list
	@grep -E '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/^([a-z-]+):.*## /\1\t/' | \
		while IFS=$$'\t' read -r name text; do printf '  %-12s %s\n' "$$name" "$$text"; done

env: $(STAMP) ## the environment in .venv, with the versions of requirements.lock

# An unfinished install is thrown away and begun again; a finished one is only brought up to date.
$(STAMP): pyproject.toml requirements.lock
	@set -euo pipefail; \
	python="$(BIN)/python"; \
	if [ -e $(UNFINISHED) ] || [ -n "$(PYTHON)" ] || ! { $(USABLE); }; then \
		found=""; \
		for python in $(or $(PYTHON),python3 python3.13 python3.12 python3.11); do \
			if { $(USABLE); }; then found="$$python"; break; fi; \
		done; \
		if [ -z "$$found" ]; then \
			echo "make env: found no Python >= 3.11 with the venv module$(if $(PYTHON), at '$(PYTHON)');" \
				"install one, or name it with PYTHON=/path/to/python3" >&2; \
			exit 1; \
		fi; \
		found="$$("$$found" -c 'import sys; print(sys.executable)')"; \
		echo "making $(VENV) with $$("$$found" --version)"; \
		rm -rf $(VENV); mkdir $(VENV); touch $(UNFINISHED); \
		"$$found" -m venv $(VENV); \
	fi; \
	touch $(UNFINISHED); \
	echo "installing the locked versions; the first time this takes a few minutes"; \
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -r requirements.lock; \
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps -e .; \
	rm $(UNFINISHED); \
	touch $@

run: $(STAMP) ## an experiment: the default one, or ARGS="experiment=... key=value ..."
	@$(BIN)/python -m experiments.run $(ARGS)

test: $(STAMP) ## the tests, less those marked slow or faults
	$(BIN)/python -m pytest -n $(WORKERS) --dist loadfile -m "not slow and not faults" $(ARGS)

test-faults: $(STAMP) ## kills, full disks, broken files; at the end what was tried is counted
	$(BIN)/python -m pytest -n $(WORKERS) --dist worksteal -rs tests/faults $(ARGS)

test-all: $(STAMP) ## every test
	$(BIN)/python -m pytest -n $(WORKERS) --dist loadfile $(ARGS)

lint: $(STAMP) ## ruff and pyright
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/pyright

format: $(STAMP) ## lay out the source as `make lint` wants it
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

docs: $(STAMP) ## the documentation site, in site/
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -e '.[docs]'
	$(BIN)/mkdocs build --strict

lock: $(STAMP) ## bring requirements.lock up to the newest versions pyproject.toml allows
	$(BIN)/python -m pip install --quiet --disable-pip-version-check uv
	$(BIN)/uv pip compile --quiet --upgrade --universal --python-version 3.11 --no-header --no-annotate \
		--extra test --extra data --extra plan --output-file requirements.lock pyproject.toml

clean: ## remove caches and builds; .venv and the runs in outputs/ stay
	rm -rf build dist site .cache .pytest_cache .ruff_cache .hypothesis *.egg-info
	find . -path ./$(VENV) -prune -o -type d -name __pycache__ -print0 | xargs -0 rm -rf
