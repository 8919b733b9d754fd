# Every target sets up what it needs: a virtual environment with the pinned packages.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready
CONSTRAINTS := --constraint constraints.txt

.PHONY: help setup demo test test-nightly docs one-writer slurm jupyterhub docker cuda check format bench bench-scale clean
.PHONY: coverage test-python test-latest lint types files hooks dist

help:
	@echo "make demo    set up, and find the label errors of a generated dataset (90 seconds)"
	@echo "make test    set up, and run the tests"
	@echo "make test-nightly  the same, with twenty times the examples of each property"
	@echo "make docs    build the documentation: docs/_build/html/index.html"
	@echo "make coverage  the same, and print which lines they ran"
	@echo "make test-python PYTHON=python3.12  the same on another Python, in a .venv of its own"
	@echo "make test-latest  the same with the newest versions of all that is needed"
	@echo "make one-writer  start 150 pairs of jobs at one instant, freeze and wake 80; print the counts"
	@echo "make slurm   set up SLURM from Debian's packages too, and run its tests"
	@echo "make jupyterhub  set up a hub, a proxy and a gateway too, and run their tests"
	@echo "make docker  follow the Dockerfile in a bare Debian, and test what it makes (as root)"
	@echo "make cuda    run the tests that need a GPU, where there is one"
	@echo "make check   Ruff, strict mypy, and what Git hosting reads: lint, types, files"
	@echo "make format  let Ruff rewrite the code"
	@echo "make hooks   check every commit before it is made"
	@echo "make dist    build what is released, and try it"
	@echo "make bench   measure speed and memory, and print the table"
	@echo "make bench-scale  measure workers, scheduling and object stores"

$(READY): pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet $(CONSTRAINTS) --editable ".[test,check]"
	@touch $@

setup: $(READY)

demo: setup
	$(BIN)/dask labelqc demo demo-output

test: setup
	$(BIN)/python -m pytest -n auto --dist loadgroup -q

test-nightly: setup
	$(BIN)/python -m pytest -n auto --dist loadgroup -q --hypothesis-profile=nightly

$(VENV)/.docs: $(READY)
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable ".[docs]"
	@touch $@

docs: $(VENV)/.docs
	$(BIN)/python -m sphinx --fail-on-warning --keep-going --nitpicky docs docs/_build/html

coverage: setup
	$(BIN)/python -m pytest -n auto --dist loadgroup -q --cov --cov-report=term:skip-covered

test-python:
	$(MAKE) test VENV=.venv-$$($(PYTHON) -c 'import sys; print("%d.%d" % sys.version_info[:2])')

# Made anew each time, without the pins: what a user gets who installs the package today.
test-latest:
	rm -rf .venv-latest
	$(MAKE) test VENV=.venv-latest CONSTRAINTS=--upgrade

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

cuda: setup
	$(BIN)/python -m pytest tests/devices -m cuda -q

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

check: lint types files

lint: setup
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: setup
	$(BIN)/mypy

# Against the schemas that the checker brings along; nothing is asked of a network.
SCHEMA := $(BIN)/check-jsonschema --no-cache --builtin-schema
files: setup
	$(SCHEMA) vendor.github-workflows .github/workflows/*.yml
	$(SCHEMA) vendor.dependabot .github/dependabot.yml
	$(SCHEMA) vendor.github-issue-config .github/ISSUE_TEMPLATE/config.yml
	$(SCHEMA) vendor.github-issue-forms .github/ISSUE_TEMPLATE/*_*.yml
	$(SCHEMA) vendor.citation-file-format CITATION.cff
	$(BIN)/zizmor --offline --quiet .github
	$(BIN)/pre-commit validate-config
	$(BIN)/validate-pyproject pyproject.toml

hooks: setup
	$(BIN)/pre-commit install

format: setup
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

bench: setup
	$(BIN)/python -m tests.benchmarks

bench-scale: setup
	$(BIN)/python -m tests.benchmarks scheduling object_store ragged

# In a checkout without changes of its own. With TAG=v1.2.3 the version has to be that of the tag.
dist: setup
	rm -rf dist
	$(BIN)/python -m build --quiet
	@test -z "$(TAG)" || test -e "dist/dask_labelqc-$(TAG:v%=%)-py3-none-any.whl" \
		|| { echo "TAG=$(TAG) is not the version of pyproject.toml"; exit 1; }
	$(PYTHON) -m venv --clear dist/.venv
	dist/.venv/bin/python -m pip install --quiet $(CONSTRAINTS) dist/*.whl
	cd dist && .venv/bin/dask labelqc --version && .venv/bin/dask labelqc audit --help > /dev/null
	rm -rf dist/.venv

clean:
	rm -rf .venv .venv-* dist demo-output benchmark-data docs/_build docs/_pictures docs/notebooks docs/reference/api
