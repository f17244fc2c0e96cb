# Each target does all of its own set-up in .venv. Needs Python >= 3.10 with venv and a C compiler.
#
#   make lab     the main job: three hosts in namespaces, a real etcd, every pair proved
#   make test    all tests (REQUIRE=1: a missing part of the machine is a failure)
#   make bench   the overlay against kernel VXLAN and per-packet forwarding
#   make build   the set-up alone; the commands are then in .venv/bin

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.built
SOURCES := setup.py pyproject.toml $(filter-out ext/_%.c,$(wildcard ext/*.[ch] ext/*/*.[ch] ext/*.pyx ext/*.pxd))
LAB_ARGS ?=
BENCH_ARGS ?=
TEST_ARGS ?=

.PHONY: build lab test bench lint types ctest micro clean

build: $(STAMP)

$(VENV)/.installed: pyproject.toml
	@command -v $(PYTHON) >/dev/null || { echo "no $(PYTHON) on PATH: install Python 3.10 or newer, or run make PYTHON=/path/to/python3" >&2; exit 1; }
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 10))' || { echo "$(PYTHON) is older than 3.10: run make PYTHON=/path/to/newer/python3" >&2; exit 1; }
	@command -v $${CC:-cc} >/dev/null || { echo "no C compiler: apt-get install gcc libc6-dev python3-dev" >&2; exit 1; }
	@$(PYTHON) -c 'import os, sys, sysconfig; sys.exit(not os.path.exists(sysconfig.get_path("include") + "/Python.h"))' || { echo "$(PYTHON) has no Python.h to compile with: apt-get install python3-dev" >&2; exit 1; }
	$(PYTHON) -m venv $(VENV) || { echo "python's venv module is missing: apt-get install python3-venv" >&2; exit 1; }
	$(BIN)/pip install --quiet --disable-pip-version-check --upgrade pip "setuptools>=77" wheel "Cython>=3.0,<4"
	@touch $@

$(STAMP): $(VENV)/.installed $(SOURCES)
	@# The warning is setuptools' note that an editable install reads this folder: that is the point.
	PYTHONWARNINGS=ignore $(BIN)/pip install --quiet --disable-pip-version-check --no-build-isolation --editable '.[dev]'
	@touch $@

lab: build
	$(BIN)/udpoverlay lab $(LAB_ARGS)

test: build
	REQUIRE=$(REQUIRE) PATH="$(abspath $(BIN)):$$PATH" $(BIN)/python -m pytest $(TEST_ARGS)

bench: build
	$(BIN)/udpoverlay bench $(BENCH_ARGS)

micro: build
	$(BIN)/python -m pytest bench --benchmark-only -q $(TEST_ARGS)

lint: build
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: build
	$(BIN)/mypy
	$(BIN)/stubtest udpoverlay._fastpath udpoverlay._pure udpoverlay._traffic

ctest:
	tests/c/run.sh

clean:
	rm -rf $(VENV) build dist *.egg-info udpoverlay/*.so ext/_fastpath.c ext/_pure.c ext/_traffic.c
