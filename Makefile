# Everything a newcomer needs: make demo, make test. Both install what they need into .venv.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
JOBS ?= 2

.PHONY: help venv demo test check fmt docs lock bench crash clean

help:
	@grep -E '^[a-z]+:.*##' Makefile | sed -E 's/:.*## /\t/' | expand -t 8

venv: $(VENV)/installed ## a virtual environment with exactly what requirements.lock names

$(VENV)/installed: pyproject.toml requirements.lock
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "tecs needs Python 3.11 or newer: make PYTHON=python3.12 ...")'
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet --disable-pip-version-check --no-deps --require-hashes -r requirements.lock
	$(BIN)/pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation --editable .
	@touch $@

demo: venv ## the main job from end to end, in the sandbox
	@bash demo.sh $(abspath $(BIN))/tecs

test: venv ## every test, with coverage
	$(BIN)/python -m pytest -n $(JOBS) --dist loadfile --cov --cov-report=term $(ARGS)

check: venv ## format, lint, types, generated documents
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/python tools/docs.py --check

fmt: venv ## format and fix
	$(BIN)/ruff check --fix-only --quiet .
	$(BIN)/ruff format --quiet .

docs: venv ## write the generated documents anew
	$(BIN)/python tools/docs.py

lock: venv ## resolve requirements.lock anew
	$(BIN)/pip install --quiet uv
	$(BIN)/uv pip compile pyproject.toml --all-extras --universal --python-version 3.11 --generate-hashes \
		--no-header --no-annotate --quiet --output-file requirements.lock

bench: venv ## speeds and numbers of calls, measured side by side
	$(BIN)/python tests/bench.py

crash: venv ## cut the run at every AWS call, and run it again
	$(BIN)/python -m tests.crash --all --jobs $(JOBS)

clean: ## remove what the other targets made
	rm -rf $(VENV) .crash .mypy_cache .pytest_cache .ruff_cache .coverage* .hypothesis
