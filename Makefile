# Everything a fresh Debian or Ubuntu with Python 3.11+ needs; every target is safe to repeat.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
INSTALLED := $(VENV)/.installed
DEV_INSTALLED := $(VENV)/.dev-installed

.PHONY: study test faults chaos reliability lint lock audit-dependencies clean help

help:  ## the targets
	@grep -E '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed 's/:.*##/\t/'

$(BIN)/python:
	$(PYTHON) -m venv $(VENV)

$(INSTALLED): $(BIN)/python pyproject.toml constraints.txt
	$(BIN)/python -m pip install --quiet -c constraints.txt -e .
	touch $@

$(DEV_INSTALLED): $(INSTALLED)
	$(BIN)/python -m pip install --quiet -c constraints.txt -e '.[dev]'
	touch $@

study: $(INSTALLED)  ## installs, runs studies/quickstart.yaml, writes its report
	$(BIN)/ganstudy run studies/quickstart.yaml
	$(BIN)/ganstudy report quickstart

test: $(DEV_INSTALLED)  ## installs what the tests need and runs them, each file in one of two processes
	$(BIN)/python -m pytest -n 2 --dist loadfile

faults: $(DEV_INSTALLED)  ## every fault test, also those that take minutes (docs/faults.md)
	$(BIN)/python -m pytest tests/faults tests/study/test_cluster.py -m "chaos or not chaos"

chaos: $(DEV_INSTALLED)  ## half an hour of faults on a cluster of three nodes; MINUTES and SEED may be given
	$(BIN)/python -m benchmarks.chaos --minutes $(or $(MINUTES),30) $(if $(SEED),--seed $(SEED))

reliability: $(DEV_INSTALLED)  ## the promises of reliability as numbers, each against its gate; wants two free cores
	$(BIN)/python -m benchmarks.reliability

lint: $(DEV_INSTALLED)  ## ruff, mypy --strict, import-linter
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

lock: $(BIN)/python  ## makes deploy/lock/*.txt anew: after a change of pyproject.toml or constraints.txt
	$(PYTHON) -m venv build/lock
	build/lock/bin/python -m pip install --quiet uv
	$(BIN)/python deploy/lock.py build/lock/bin/uv

audit-dependencies: $(BIN)/python  ## asks for known vulnerabilities of what is locked; needs the internet
	$(PYTHON) -m venv build/audit
	build/audit/bin/python -m pip install --quiet pip-audit
	build/audit/bin/pip-audit --strict --disable-pip --require-hashes -r deploy/lock/common.txt -r deploy/lock/torch-cuda.txt

clean:  ## removes the environment; studies under runs/ stay
	rm -rf $(VENV) build *.egg-info
