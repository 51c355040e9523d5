# SPDX-License-Identifier: GPL-3.0-or-later
# Every target sets up what it needs: scripts/setup.sh does nothing when .venv is up to date.
# TF=2 takes TensorFlow 2, in .venv-tf2, as in `make setup TF=2` and `make test TF=2`; PART=tests/test_x.py a part of the tests.
TF ?= $(SQAIR_TF)
PYTHON_VENV := $(if $(filter 2,$(TF)),.venv-tf2,.venv)/bin/python
export SQAIR_TF := $(TF)
# Two processes share the tests; each keeps to one core (tests/conftest.py), as its threads then do.
TESTS := CUDA_VISIBLE_DEVICES= OMP_NUM_THREADS=1 $(PYTHON_VENV) -m pytest -q --numprocesses=2 --dist=worksteal $(PART)

.DEFAULT_GOAL := help
.PHONY: help setup demo notebook test test-all lint format

help:  ## list the targets
	@sed -n 's/^\([a-z-]*\):.*## \(.*\)/  make \1\t\2/p' Makefile | expand -t 20

setup:  ## make or update .venv (TF=2: .venv-tf2)
	@scripts/setup.sh

demo: setup  ## make a small data set, train on it, draw what it sees (4 minutes on 2 cores)
	@$(PYTHON_VENV) scripts/demo.py

notebook: setup  ## open notebooks/play.ipynb in a browser (installs Jupyter's notebook the first time)
	@$(PYTHON_VENV) -c "import notebook" 2>/dev/null || $(PYTHON_VENV) -m pip install --quiet notebook==6.5.7
	@$(PYTHON_VENV) -m notebook notebooks/play.ipynb

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
