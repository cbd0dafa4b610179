# Every target does all of its own set-up: python3 (3.11 or newer) and make are enough.
PYTHON ?= python3
VENV ?= .venv
BIN = $(VENV)/bin
# The versions that CI ran, where they fit this Python; otherwise the newest that the bounds allow.
LOCK = $(wildcard requirements-lock-py$(shell $(PYTHON) -c 'import sys; print("%d%d" % sys.version_info[:2])').txt)

# Where `make demo` and `make compare` write.
DEMO ?= runs/demo
COMPARE ?= runs/compare
DEMO_DATA = --config=configs/synthetic.py --config.dataset.data_dir=$(DEMO)/data

.PHONY: test test-slow lint demo compare faults clean

$(VENV)/installed: requirements.txt requirements-dev.txt $(LOCK)
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet -r requirements-dev.txt $(if $(LOCK),-c $(LOCK))
	touch $@

test: $(VENV)/installed
	$(BIN)/python -m pytest -n 2 --dist worksteal $(addprefix --ignore=,$(SLOW))

# Whole programs: the commands of README.md as they stand and the notebook, shortened; main.py; trainings, also stopped and killed ones;
# networks lowered for accelerators; the page in a browser; benchmarks; two processes.
SLOW = tests/readme_test.py tests/distributed_test.py tests/killed_test.py tests/faults_test.py tests/ray_test.py tests/lowering_test.py tests/program/resume_test.py tests/program/runs_test.py tests/examples_test.py tests/program/main_test.py tests/program/app_test.py tests/benchmarks
test-slow: $(VENV)/installed
	$(BIN)/python -m pytest -n 2 --dist worksteal $(SLOW)

lint: $(VENV)/installed
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

# 1.5 times as fast on a CPU (docs/performance.md).
demo compare: export GLIBC_TUNABLES ?= glibc.malloc.hugetlb=1
# One GPU is enough for a small network, and any batch can be shared by one.
demo compare: export CUDA_VISIBLE_DEVICES ?= 0

# From nothing to masks: people, templates, training, weights, pictures. Run again, it goes on.
demo: $(VENV)/installed
	mkdir -p $(DEMO)
	$(BIN)/python main.py --mode=templates $(DEMO_DATA) --output=$(DEMO)/templates.json
	$(BIN)/python main.py --workdir=$(DEMO)/run $(DEMO_DATA) --config.model.alignment.templates=$(DEMO)/templates.json
	$(BIN)/python main.py --mode=export_weights --workdir=$(DEMO)/run --output=$(DEMO)/model.safetensors
	$(BIN)/python main.py --mode=report --workdir=$(DEMO)/run --output=$(DEMO)/index.html

# Alignment by pose against alignment by box, with and without NMS.
compare: $(VENV)/installed
	$(BIN)/python benchmarks/compare.py --workdir=$(COMPARE)

# Faults that are injected into real trainings, and what they cost (docs/training.md has a table).
TIMES ?= 50
faults: $(VENV)/installed
	$(BIN)/python -m benchmarks.faults --times=$(TIMES)

clean:
	rm -rf $(VENV) .pytest_cache .mypy_cache .ruff_cache
