# `make demo` and `make test` need only Python >= 3.11, pip, git and make.
PYTHON ?= python3.11
VENV := .venv
BIN := $(VENV)/bin
# One pinned set for 3.11, the last version that jax 0.10 supports, and one for
# every later Python.
PINS = .constraints/python$(shell $(PYTHON) -c 'import sys; print("3.11" if sys.version_info[:2] == (3, 11) else "3.12")').txt

.PHONY: setup demo test lint format

setup: $(VENV)/installed

# Stamped last, so that an interrupted installation is never taken for whole.
$(VENV)/installed: $(wildcard .constraints/*.txt) pyproject.toml
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet --disable-pip-version-check --require-hashes -r $(PINS)
	$(BIN)/pip install --quiet --disable-pip-version-check --no-deps -e .
	touch $@
