# `make demo` and `make test` need only Python >= 3.11 and make: both build .venv first.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin

.PHONY: demo test slow soak lint types bench clean

$(VENV)/.installed: pyproject.toml
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --upgrade pip
	$(BIN)/python -m pip install --quiet -e .
	touch $@

$(VENV)/.installed-dev: $(VENV)/.installed
	$(BIN)/python -m pip install --quiet -e '.[dev]'
	touch $@

demo: $(VENV)/.installed
	$(BIN)/python train.py pair --parallel --config configs/demo_quick.yaml
	$(BIN)/python analyze.py all --run runs/demo_quick

test: $(VENV)/.installed-dev lint types
	$(BIN)/python -m pytest -n 2

slow: $(VENV)/.installed-dev
	$(BIN)/python -m pytest -m slow

soak: $(VENV)/.installed-dev
	$(BIN)/python -m tests.soak

lint: $(VENV)/.installed-dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: $(VENV)/.installed-dev
	$(BIN)/mypy

bench: $(VENV)/.installed-dev
	for script in benchmarks/*.py; do $(BIN)/python $$script || exit 1; done

clean:
	rm -rf $(VENV) runs/demo_quick
