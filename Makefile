# Two commands: `make demo` shows RLDK at work, `make test` proves it. Each installs what it needs.

PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
INSTALLED := $(VENV)/.installed

.PHONY: demo test lint format lock clean

demo: $(INSTALLED)
	$(BIN)/rldk demo

test: $(INSTALLED) lint
	$(BIN)/pytest

lint: $(INSTALLED)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

format: $(INSTALLED)
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

# constraints.txt pins every package, so that the same commit gives the same result next year.
$(INSTALLED): pyproject.toml constraints.txt rldk/_version.py
	$(PYTHON) -c 'import sys; sys.exit(None if sys.version_info >= (3, 11) else "RLDK needs Python 3.11 or newer; set PYTHON=")'
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --constraint constraints.txt 'torch==2.13.0' hatchling editables
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --no-build-isolation --editable '.[dev]'
	touch $@

# Writes constraints.txt anew from what .venv holds; review the difference before committing it.
# (torch's local version, such as +cpu, is left out: it says which index a machine uses. On Linux torch
# itself pins the CUDA packages that it brings.)
lock: $(INSTALLED)
	$(BIN)/python -m pip freeze --exclude-editable | sed 's/+cpu$$//' > constraints.txt

clean:
	rm -rf $(VENV) rldk-demo
