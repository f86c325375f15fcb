# Two commands: `make demo` shows the whole method, `make test` runs every test. Each sets up what it needs, once.
PYTHON ?= python3
BIN := .venv/bin
READY := .venv/.ready

.PHONY: demo test quick lint docs notebooks clean

# The whole method at a small size: data, teacher, joint training, evaluation, report. Finished stages are kept.
demo: $(READY)
	$(BIN)/dgnet demo demo

# Every test, and the linters.
test: $(READY) lint
	$(BIN)/python -m pytest -n 2 -q -m "not golden"
	$(BIN)/python -m pytest -q -m golden

# What can be run while one thinks: without the tests that take more than about ten seconds.
quick: $(READY)
	$(BIN)/python -m pytest -n 2 -q -m "not slow"

lint: $(READY)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

# The documentation as a site in site/, which opens offline; a link that leads nowhere is an error.
docs: .venv/.docs-ready
	rm -rf site
	$(BIN)/zensical build --clean --strict

# Both notebooks, from the first cell to the last.
notebooks: .venv/.docs-ready
	$(BIN)/python notebooks/run.py

.venv/.docs-ready: docs.lock $(READY)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -r docs.lock
	touch .venv/.docs-ready

$(READY): requirements.lock pyproject.toml
	$(PYTHON) -c 'import sys; sys.version_info >= (3, 11) or sys.exit("dgnet needs Python 3.11 or newer; this is " + sys.version.split()[0])'
	test -x $(BIN)/python || $(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -r requirements.lock
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation --editable .
	touch $(READY)

clean:
	rm -rf .venv demo site .cache .pytest_cache .mypy_cache .ruff_cache .hypothesis
