# make install | demo | lint | test | test-slow | test-all | check | docs | speed | gpu; each makes .venv when it is missing.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.xaikit-installed
# One thread a test process: two of them share two cores better than four threads do.
PYTEST := OMP_NUM_THREADS=1 $(BIN)/python -m pytest -q -n 2

.PHONY: install demo lint test test-slow test-all check docs speed gpu clean

install: $(STAMP)

$(STAMP): pyproject.toml constraints.txt
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --disable-pip-version-check --no-compile -q -e '.[dev,app,backends,docs,medical,ray,timm,transformers]' -c constraints.txt
	touch $(STAMP)

demo: $(STAMP)
	$(BIN)/xaikit demo -o out/demo

test: $(STAMP)
	$(PYTEST) -m "not slow and not real and not backends and not browser"

test-all: $(STAMP)
	$(PYTEST)

test-slow: $(STAMP)
	$(PYTEST) -m "slow or real or backends or browser"

lint: $(STAMP)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

check: lint test

docs: $(STAMP)
	NO_MKDOCS_2_WARNING=1 $(BIN)/python -m mkdocs build -q

speed: $(STAMP)
	$(BIN)/python -m evaluation.speed

gpu: $(STAMP)
	$(BIN)/python -m evaluation.gpu

clean:
	rm -rf out build dist
