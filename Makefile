# Each target is one command on a fresh machine with Python 3.11 or newer, make and git.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
# The variable silences an announcement of MkDocs' authors, which is no warning about the pages.
SITE := NO_MKDOCS_2_WARNING=1 $(BIN)/python -m mkdocs build --strict

.PHONY: demo test check types style site collected docs faults format clean

demo: $(VENV)/.demo
	$(BIN)/python -m eeipu demo

test: $(VENV)/.dev
	$(MAKE) check

# What CI runs: what needs no test to run, two at a time, and then the tests. Three test workers on two
# cores, because tests wait for processes a third of their time.
check: $(VENV)/.dev
	$(MAKE) --jobs=2 --no-print-directory types collected site style
	OMP_NUM_THREADS=1 OPENBLAS_NUM_THREADS=1 $(BIN)/pytest -n 3 --dist loadgroup --cov --cov-report=term

types: $(VENV)/.dev
	$(BIN)/mypy

style: $(VENV)/.dev
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/lint-imports

site: $(VENV)/.dev
	$(SITE) --quiet

# Collected once, the tests and eeipu are there as bytecode for all workers and processes of the tests,
# also where the environment says that Python shall write none.
collected: $(VENV)/.dev
	@said=$$(PYTHONDONTWRITEBYTECODE= $(BIN)/pytest --collect-only -qq) || { echo "$$said"; exit 1; }

# The documentation as a site, in build/site/index.html.
docs: $(VENV)/.docs
	$(SITE)

# Kills, damage, races, a full disk: what the cache survives, counted, which takes about two minutes.
# Then pipelines that went wrong: what is right now, counted, which takes about fifteen.
faults: $(VENV)/.dev
	OMP_NUM_THREADS=1 $(BIN)/python benchmarks/faults.py

format: $(VENV)/.dev
	$(BIN)/ruff check --fix
	$(BIN)/ruff format

clean:
	rm -rf $(VENV) build dist demo-result .coverage .mypy_cache .pytest_cache .ruff_cache

# constraints.txt pins everything to what was tested, torch to whichever build pip finds.
# Their 400 MB of Python pip compiles one file after the other: all cores do it instead, without the
# libraries' own tests. A few files are no Python that compiles, which pip passes over, too.
$(VENV)/.dev: pyproject.toml constraints.txt | $(BIN)/python
	$(BIN)/pip install --quiet --no-compile -c constraints.txt -e ".[dev]"
	$(BIN)/python -W ignore -m compileall -qq -j 0 -x /tests/ $(VENV)/lib || true
	touch $@

$(VENV)/.docs: pyproject.toml constraints.txt | $(BIN)/python
	$(BIN)/pip install --quiet -c constraints.txt -e ".[docs]"
	touch $@

$(VENV)/.demo: pyproject.toml constraints.txt | $(BIN)/python
	$(BIN)/pip install --quiet -c constraints.txt -e ".[demo]"
	touch $@

$(BIN)/python:
	$(PYTHON) -m venv $(VENV)
