# Two commands: `make demo` shows RLDK at work, `make test` proves it. Each installs what it needs.

PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
WORKERS ?= 3
INSTALLED := $(VENV)/.installed
DEV := '.[dev]'
MATRIX := '.[trl,mlflow,wandb]' pytest pytest-timeout hypothesis

.PHONY: demo test test-matrix docs release-check audit bench lint format lock clean

demo: $(INSTALLED)
	$(BIN)/rldk demo

# The tests of faults measure how long a process takes to end, so they have the machine to themselves.
test: lint
	$(BIN)/pytest --numprocesses=$(WORKERS) --dist=loadfile --ignore=tests/faults
	$(BIN)/pytest tests/faults

# The callback on real trainers, on the oldest TRL and on the last one that has PPO.
# (TRL below 0.29 does not work with transformers 5, so the first one has a transformers of its own.)
test-matrix: matrix-0.23.1 matrix-1.12.0

.PRECIOUS: .venv-trl-%/.installed

matrix-1.12.0: ALSO := tests/examples

matrix-%: .venv-trl-%/.installed
	.venv-trl-$*/bin/pytest -o filterwarnings=default tests/integrations tests/contract $(ALSO)

# The documentation as a site: docs/_build/index.html.
docs: $(INSTALLED)
	$(BIN)/sphinx-build --fail-on-warning --keep-going --nitpicky --quiet docs docs/_build

# Wheel and sdist, what is in them, and an installation of the wheel with no extra and with each.
release-check: $(INSTALLED)
	$(BIN)/python tools/check_release.py

# Known vulnerabilities of the pinned packages. Asks a service on the network, or OSV=<URL of a mirror>.
audit: $(INSTALLED)
	$(BIN)/python tools/audit.py $(if $(OSV),--osv-url $(OSV))

# Each benchmark side by side with its peer; writes docs/performance.md. Takes about 20 minutes.
bench: $(INSTALLED)
	$(BIN)/python -m benchmarks --write

lint: $(INSTALLED)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	MYPYPATH=examples/rldk-trackio/src $(BIN)/mypy --package=rldk_trackio
	$(BIN)/lint-imports

format: $(INSTALLED)
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

# constraints/ pins every package, so that the same commit gives the same result next year.
$(INSTALLED): pyproject.toml constraints/main.txt rldk/_version.py
	$(call install,$(VENV),constraints/main.txt,$(DEV))

.venv-trl-%/.installed: constraints/trl-%.txt pyproject.toml rldk/_version.py
	$(call install,.venv-trl-$*,$<,$(MATRIX) 'trl==$*')

# $(1) the environment, $(2) the pins, $(3) what to install
define install
	$(PYTHON) -c 'import sys; sys.exit(None if sys.version_info >= (3, 11) else "RLDK needs Python 3.11 or newer; set PYTHON=")'
	test -x $(1)/bin/python || $(PYTHON) -m venv $(1)
	$(1)/bin/python -m pip install --quiet --constraint $(2) 'torch==2.13.0' hatchling editables
	$(1)/bin/python -m pip install --quiet --constraint $(2) --no-build-isolation --editable $(3)
	touch $(1)/.installed
endef

# Writes constraints/main.txt anew from what .venv holds; review the difference before committing it.
# (torch's local version, such as +cpu, is left out: it says which index a machine uses. On Linux torch
# itself pins the CUDA packages that it brings.)
lock: $(INSTALLED)
	$(BIN)/python -m pip freeze --exclude-editable | sed 's/+cpu$$//' > constraints/main.txt

clean:
	rm -rf $(VENV) .venv-trl-* rldk-demo
