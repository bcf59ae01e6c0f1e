# make demo   install, transcribe the recordings that ship with the package
# make test   install the test tools, lint, type-check, run all tests
# make e2e    install a browser and its driver, use the server's page in it, leave pictures in e2e/screenshots
# make bench  time it beside transformers, write docs/performance.md
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
PIP := $(BIN)/pip install --quiet --disable-pip-version-check -c constraints.txt

.PHONY: demo test lint types tests e2e bench clean

$(BIN)/python:
	$(PYTHON) -m venv $(VENV)

$(VENV)/.demo: $(BIN)/python pyproject.toml constraints.txt
	$(PIP) -e .
	@touch $@

$(VENV)/.test: $(BIN)/python pyproject.toml constraints.txt
	$(PIP) -e '.[test]'
	@touch $@ $(VENV)/.demo

$(VENV)/.e2e: $(BIN)/python pyproject.toml constraints.txt
	command -v chromium || apt-get install -y chromium || sudo apt-get install -y chromium
	$(PIP) -e '.[e2e]'
	@touch $@ $(VENV)/.demo

demo: $(VENV)/.demo
	$(BIN)/wavconformer demo

test: lint types tests

lint: $(VENV)/.test
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/lint-imports

types: $(VENV)/.test
	$(BIN)/mypy

tests: $(VENV)/.test
	$(BIN)/python -m pytest -n auto --dist loadfile --cov --cov-report=term

e2e: $(VENV)/.e2e
	$(BIN)/python -m pytest e2e

bench: $(VENV)/.test
	$(BIN)/python -m benchmarks

clean:
	rm -rf $(VENV) .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache .coverage
