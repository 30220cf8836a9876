# The two commands: `make demo` and `make test`. Both set up .venv first; nothing outside this folder is touched.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin

.PHONY: setup demo test lint bench clean

setup: $(VENV)/.done

# torch first, from the constraints file: an open range would take a newer build with several GB of CUDA packages.
$(VENV)/.done: pyproject.toml constraints.txt
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "blemish needs Python 3.11 or newer: make PYTHON=python3.11 ...")'
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt torch
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e ".[demo,tracking,export,fleet,serve,dev]"
	touch $@

demo: setup
	$(BIN)/blemish demo --out demo

# A process for each core, with a thread each: twice as fast as one process with all threads. One that dies is not
# replaced: pytest-xdist would then wait for ever for the files that were given to it. The longest files come first
# (tests/conftest.py); pytest-xdist's own order, by the number of tests, leaves the longest to the end.
test: setup
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n logical --dist loadfile --no-loadscope-reorder --max-worker-restart 0

lint: setup
	$(BIN)/ruff check src tests benchmarks examples
	$(BIN)/ruff format --check src tests benchmarks examples
	$(BIN)/mypy

# Speed, beside anomalib in an environment of its own: an hour of an idle machine. BENCH=--quick for a look.
bench: setup
	$(BIN)/python benchmarks/bench.py --peer $(VENV)-anomalib $(BENCH)

clean:
	rm -rf $(VENV) $(VENV)-anomalib demo build
