# Every target does all of its own set-up: python3 (3.11 or newer) and make are enough.
PYTHON ?= python3
VENV ?= .venv
BIN = $(VENV)/bin
# The versions that CI ran, where they fit this Python; otherwise the newest that the bounds allow.
LOCK = $(wildcard requirements-lock-py$(shell $(PYTHON) -c 'import sys; print("%d%d" % sys.version_info[:2])').txt)

.PHONY: test lint clean

$(VENV)/installed: requirements.txt requirements-dev.txt $(LOCK)
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet -r requirements-dev.txt $(if $(LOCK),-c $(LOCK))
	touch $@

test: $(VENV)/installed
	$(BIN)/python -m pytest -n 2

lint: $(VENV)/installed
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

clean:
	rm -rf $(VENV) .pytest_cache .mypy_cache .ruff_cache
