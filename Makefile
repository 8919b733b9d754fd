# Every target sets up what it needs: a virtual environment with the pinned packages.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready

.PHONY: help setup demo test test-nightly one-writer slurm jupyterhub docker check format bench bench-scale clean

help:
	@echo "make demo    set up, and find the label errors of a generated dataset (90 seconds)"
	@echo "make test    set up, and run the tests"
	@echo "make test-nightly  the same, with twenty times the examples of each property"
	@echo "make one-writer  start 150 pairs of jobs at one instant, freeze and wake 80; print the counts"
	@echo "make slurm   set up SLURM from Debian's packages too, and run its tests"
	@echo "make jupyterhub  set up a hub, a proxy and a gateway too, and run their tests"
	@echo "make docker  follow the Dockerfile in a bare Debian, and test what it makes (as root)"
	@echo "make check   Ruff and strict mypy"
	@echo "make format  let Ruff rewrite the code"
	@echo "make bench   measure speed and memory, and print the table"
	@echo "make bench-scale  measure workers, scheduling and object stores"

$(READY): pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable ".[test,check]"
	@touch $@

setup: $(READY)

demo: setup
	$(BIN)/dask labelqc demo demo-output

test: setup
	$(BIN)/python -m pytest -n auto --dist loadgroup -q

test-nightly: setup
	$(BIN)/python -m pytest -n auto --dist loadgroup -q --hypothesis-profile=nightly

one-writer: setup
	$(BIN)/python -m tests.pipeline.one_writer

# Whoever is not root is asked for a password, by sudo.
$(VENV)/.slurm: $(READY)
	@PATH="$$PATH:/usr/sbin"; { command -v munged && command -v slurmd && command -v slurmctld; } > /dev/null || { \
		if [ "$$(id -u)" = 0 ]; then as=; else as=sudo; fi; \
		$$as apt-get update && $$as apt-get install --yes --no-install-recommends slurm-wlm munge; \
	} || { echo "Install slurmctld, slurmd, sbatch and munged."; exit 1; }
	@touch $@

slurm: $(VENV)/.slurm
	$(BIN)/python -m pytest tests/slurm -m slurm -q

# The proxy of JupyterHub comes from npm. This version of it runs on the Node.js of Debian 12.
$(VENV)/.jupyterhub: $(READY)
	@command -v npm > /dev/null || { apt-get update && apt-get install --yes nodejs npm; } \
		|| { echo "Install Node.js 18 or newer, and npm."; exit 1; }
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable ".[test,jupyterhub]"
	npm install --silent --global --prefix $(abspath $(VENV)) configurable-http-proxy@5.0.1
	@touch $@

jupyterhub: $(VENV)/.jupyterhub
	$(BIN)/python -m pytest tests/jupyterhub -m jupyterhub -q

docker: setup
	command -v debootstrap >/dev/null || apt-get install --yes debootstrap
	$(BIN)/python -m pytest -m docker -q tests/deploy

check: setup
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

format: setup
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

bench: setup
	$(BIN)/python -m tests.benchmarks

bench-scale: setup
	$(BIN)/python -m tests.benchmarks scheduling object_store

clean:
	rm -rf $(VENV) demo-output benchmark-data
