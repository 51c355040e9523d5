# SPDX-License-Identifier: GPL-3.0-or-later
# Every target sets up what it needs: scripts/setup.sh does nothing when .venv is up to date.
PYTHON_VENV := .venv/bin/python
# Two processes share the tests; each keeps to one core (tests/conftest.py), as its threads then do.
TESTS := CUDA_VISIBLE_DEVICES= OMP_NUM_THREADS=1 $(PYTHON_VENV) -m pytest -q --numprocesses=2 --dist=worksteal

.DEFAULT_GOAL := help
.PHONY: help setup demo test test-all lint format

help:  ## list the targets
	@sed -n 's/^\([a-z-]*\):.*## \(.*\)/  make \1\t\2/p' Makefile | expand -t 20

setup:  ## make or update .venv
	@scripts/setup.sh

demo: setup  ## make a small data set, train on it, draw what it sees (4 minutes on 2 cores)
	@$(PYTHON_VENV) scripts/demo.py

test: setup  ## the tests, without the slow ones (5 minutes on 2 cores)
	@$(TESTS) -m "not slow"

test-all: setup  ## all tests (half an hour on 2 cores)
	@$(TESTS)

lint: setup  ## check style and format
	@$(PYTHON_VENV) -m ruff check .
	@$(PYTHON_VENV) -m ruff format --check .

format: setup  ## put the sources in the common format
	@$(PYTHON_VENV) -m ruff check --fix-only --quiet .
	@$(PYTHON_VENV) -m ruff format .
