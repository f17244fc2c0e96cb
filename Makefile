# Each target does all of its own set-up in .venv. Needs Python >= 3.10 with venv and a C compiler;
# what is missing is told at once. `make help` lists the targets.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.built
SOURCES := setup.py pyproject.toml $(filter-out ext/_%.c,$(wildcard ext/*.[ch] ext/*/*.[ch] ext/*.pyx ext/*.px[di]))
C_SOURCES := $(wildcard ext/*.h ext/*/*.[ch] tests/c/*.[ch] tests/fuzz/*.[ch]) ext/verdict.c
TEXTS := README.md CHANGELOG.md CONTRIBUTING.md Makefile pyproject.toml setup.py bench deploy docs ext tests udpoverlay
LAB_ARGS ?=
BENCH_ARGS ?=
TEST_ARGS ?=
MUTANTS ?=
WAITING := tests/registry tests/podcidr
PREFIX ?= /usr/local
SYSCONFDIR ?= /etc
DESTDIR ?=
PIP := $(BIN)/pip --disable-pip-version-check
PYTEST = REQUIRE=$(REQUIRE) PATH="$(abspath $(BIN)):$$PATH" $(BIN)/python -m pytest

.PHONY: build help lab test bench micro lint format types ctest sanitize mutants check coverage dist install uninstall clean

build: $(STAMP) ## the set-up alone; the commands are then in .venv/bin

help: ## this list
	@sed -n 's/^\([a-z]*\):[^#]*## /\1\t/p' $(MAKEFILE_LIST) | sort | while IFS='	' read -r name text; do printf '  make %-10s %s\n' "$$name" "$$text"; done

# All that is missing at once, with the one command that installs it.
$(VENV)/.installed: pyproject.toml
	@missing='' packages=''; \
	need() { missing="$$missing  $$1\n"; packages="$$packages $$2"; }; \
	if ! command -v $(PYTHON) >/dev/null; then \
	    need "$(PYTHON) on PATH: Python 3.10 or newer (or run make PYTHON=/path/to/python3)" "python3 python3-venv python3-dev"; \
	elif ! $(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 10))'; then \
	    need "Python 3.10 or newer: $(PYTHON) is older (run make PYTHON=/path/to/python3)" "python3 python3-venv python3-dev"; \
	else \
	    $(PYTHON) -c 'import ensurepip, venv' 2>/dev/null || need "Python's modules venv and ensurepip" python3-venv; \
	    $(PYTHON) -c 'import os, sys, sysconfig; sys.exit(not os.path.exists(sysconfig.get_path("include") + "/Python.h"))' || need "Python.h, to compile with $(PYTHON)" python3-dev; \
	fi; \
	if ! command -v $${CC:-cc} >/dev/null; then need "a C compiler ($${CC:-cc})" "gcc libc6-dev"; \
	elif ! echo '#include <stdlib.h>' | $${CC:-cc} -fsyntax-only -x c - 2>/dev/null; then need "the C library's headers" libc6-dev; fi; \
	if [ -n "$$missing" ]; then \
	    printf "To build, this machine lacks:\n$$missing"'On Debian or Ubuntu: sudo apt-get install%s\n' "$$packages" >&2; exit 1; \
	fi
	@echo "setting up $(VENV), about a minute …"
	@$(PYTHON) -m venv $(VENV)
	@$(PIP) install --quiet --upgrade pip "setuptools>=77" wheel "Cython>=3.0,<4"
	@touch $@

$(STAMP): $(VENV)/.installed $(SOURCES)
	@echo "building …"
	@# The warning is setuptools' note that an editable install reads this folder: that is the point.
	@PYTHONWARNINGS=ignore $(PIP) install --quiet --no-build-isolation --editable '.[dev]'
	@touch $@

lab: build ## the main job: hosts in namespaces, a real etcd, every pair proved (LAB_ARGS=)
	$(BIN)/udpoverlay lab $(LAB_ARGS)

# Tests in WAITING mostly wait for an etcd or a time-out: three of them run at once.
test: build ## all tests (TEST_ARGS=; REQUIRE=1: a missing part of the machine is a failure)
ifeq ($(TEST_ARGS),)
	$(PYTEST) -n 3 $(WAITING)
	$(PYTEST) $(WAITING:%=--ignore=%)
else
	$(PYTEST) $(TEST_ARGS)
endif

bench: build ## the overlay beside kernel VXLAN and other tunnels, as ratios (BENCH_ARGS=)
	$(BIN)/udpoverlay bench $(BENCH_ARGS)

micro: build ## the hot functions alone (pytest-benchmark)
	$(BIN)/python -m pytest bench --benchmark-only -q $(TEST_ARGS)

lint: build ## rules, format and words: Python, C, docs
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	@$(BIN)/clang-format --dry-run --Werror $(C_SOURCES)
	$(BIN)/codespell
	@# Words that have another meaning in this field, or none: docs/glossary.md has ours.
	@! grep -rnIwEi --exclude='_*.c' -f .banned-words $(TEXTS)

format: build ## write the format that lint asks for
	$(BIN)/ruff check --fix-only .
	$(BIN)/ruff format .
	@$(BIN)/clang-format -i $(C_SOURCES)

types: build ## mypy --strict, and the stubs against the compiled modules
	$(BIN)/mypy
	$(BIN)/stubtest udpoverlay._fastpath udpoverlay._pure udpoverlay._traffic

sanitize: build ## pump, data plane and offloads with the extension under ASan and UBSan (TEST_ARGS=)
	PATH="$(abspath $(BIN)):$$PATH" REQUIRE=$(REQUIRE) tests/sanitize.sh $(TEST_ARGS)

ctest: ## the C units under the sanitizers, the fuzzers for a bounded time
	tests/c/run.sh

# MUTANTS=quick: one of each room; MUTANTS="routes ttl-*": rooms or names.
mutants: build ## plant realistic bugs, see that a test notices each (MUTANTS=)
	$(BIN)/python -m tests.mutants $(if $(filter quick,$(MUTANTS)),--quick,$(foreach name,$(MUTANTS),--only '$(name)'))

check: lint types ctest sanitize test ## everything that must be green before a change lands

coverage: build ## the tests with the lines they run: build/coverage/index.html (TEST_ARGS=)
	$(BIN)/coverage erase
	PATH="$(abspath $(BIN)):$$PATH" $(BIN)/coverage run -m pytest $(TEST_ARGS); status=$$?; \
	$(BIN)/coverage combine -q && $(BIN)/coverage html -q && $(BIN)/coverage report && exit $$status

dist: build ## dist/: source and a wheel for this machine
	rm -rf dist
	$(BIN)/python -m build --no-isolation --outdir dist .

install: build ## commands, unit, man pages, completions (PREFIX= SYSCONFDIR= DESTDIR=)
	rm -rf build/wheel build/lib* build/bdist*
	$(PIP) wheel --quiet --no-deps --no-build-isolation --wheel-dir build/wheel .
	@PIP="$(abspath $(BIN))/pip" PREFIX="$(PREFIX)" SYSCONFDIR="$(SYSCONFDIR)" DESTDIR="$(DESTDIR)" \
	    deploy/install.sh build/wheel/udpoverlay-*.whl $(PYTHON)

uninstall: ## what install put there, but for the settings
	@PREFIX="$(PREFIX)" SYSCONFDIR="$(SYSCONFDIR)" DESTDIR="$(DESTDIR)" deploy/install.sh --uninstall

clean: ## back to the checkout
	rm -rf $(VENV) build dist *.egg-info udpoverlay/*.so ext/_fastpath.c ext/_pure.c ext/_traffic.c .coverage .coverage.*
