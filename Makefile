# make demo   the main job on an embedded PostgreSQL, in its own virtual environment
# make test   installs what the tests need (servers included), lints, runs everything CI runs
# PYTHON=python3.13 make test   uses another interpreter; `make clean` first when .venv exists

PYTHON ?= python3

VENV := .venv
DEMO_VENV := .venv-demo
RUN := $(VENV)/bin/python -m
# Programs of a virtual environment are started with `python -m`, never by name: their first line
# holds an absolute path, which breaks when the checkout moves or its path is long.

# Side by side, since most tests wait for a server; each worker has servers of its own. `make test WORKERS=0`: one after
# the other. A worker that dies ends the run, which might wait for ever for what its replacement does.
WORKERS := 3
PARALLEL := --numprocesses=$(WORKERS) --dist=worksteal --max-worker-restart=0

.PHONY: demo test test-long bench lint format servers clean

demo: $(DEMO_VENV)/.installed
	$(DEMO_VENV)/bin/python -m rdsproxy_lib demo

test: lint servers
	$(RUN) pytest $(PARALLEL) -m "not long" --durations=15

# Everything of `make test`, the tests marked `long`, and many more hypothesis examples. With FAULT_MATRIX_DIR=directory
# the rows of the fault matrix (tests/cluster/test_failover.py) are recorded there as they end, and a run that was broken
# off goes on with those that are left, as long as the library and tests/cluster are what they were. A row that failed is
# recorded too: it fails again until its file is removed.
test-long: lint servers
	$(RUN) pytest $(PARALLEL) --hypothesis-profile=long --durations=30 -o faulthandler_timeout=3600

bench: $(VENV)/.installed servers
	$(RUN) tests.bench

lint: $(VENV)/.installed
	$(RUN) ruff check .
	$(RUN) mypy

format: $(VENV)/.installed
	$(RUN) ruff format .
	$(RUN) ruff check --fix .

servers: $(VENV)/.installed
	$(RUN) tests.install_servers

$(VENV)/.installed: pyproject.toml
	$(PYTHON) -m venv $(VENV)
	$(RUN) pip install --disable-pip-version-check --quiet --editable '.[test]'
	touch $@

$(DEMO_VENV)/.installed: pyproject.toml
	$(PYTHON) -m venv $(DEMO_VENV)
	$(DEMO_VENV)/bin/python -m pip install --disable-pip-version-check --quiet --editable '.[demo]'
	touch $@

clean:
	rm -rf $(VENV) $(DEMO_VENV) dist .coverage .hypothesis .mypy_cache .pytest_cache .ruff_cache
