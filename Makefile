# Everything is set up by the first command that needs it: a virtual environment in .venv, from pyproject.toml.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready

STUDY ?= digits
SCALE ?= quick
# further arguments of the command, e.g. ARGS="--set race.seeds=1,2,3,4,5"
ARGS ?=
# one thread a process: the processes are the parallelism
export OMP_NUM_THREADS ?= 1

.DEFAULT_GOAL := help
.PHONY: help setup sweep race studies report bench test test-all lint format browser data clean

help: ## list the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  %-10s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

setup: $(READY) ## make the virtual environment and install into it

$(READY): pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo "fisherbench needs Python 3.11 or newer; set PYTHON=…"; exit 2; }
	@echo "setting up $(VENV) (a few minutes the first time)"
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install -qq --disable-pip-version-check --editable '.[dev,dashboard]'
	@touch $(READY)

sweep: $(READY) ## tune every arm, race the winners, write the report (STUDY=, SCALE=, RAY_ADDRESS=)
	@$(BIN)/fisherbench sweep $(STUDY) --scale $(SCALE) $(ARGS)

race: $(READY) ## race with the stored winners (STUDY=, SCALE=)
	@$(BIN)/fisherbench race $(STUDY) --scale $(SCALE) $(ARGS)

studies: $(READY) ## every experiment of the paper (SCALE=, ARGS="--dry-run")
	@$(BIN)/fisherbench run --all --scale $(SCALE) $(ARGS)

report: $(READY) ## write the report of stored results (STUDY=)
	@$(BIN)/fisherbench report $(STUDY) $(ARGS)

bench: $(READY) ## time the optimizers, in pairs, and judge the targets (30 minutes; ARGS="--pairs 5" for a look)
	@$(BIN)/python -m tests.benchmarks $(ARGS)

# The tests that keep both cores busy by themselves come last and alone; the others share the cores. Both calls are made,
# whichever fails, unless pytest was interrupted (2). 5 is its "no tests", as ARGS="-k …" may leave none in one of the two.
define run_tests
	@$(BIN)/python -m pytest -n 2 --dist worksteal -m "$(1)not (ray or dist)" $(ARGS); others=$$?; \
	[ $$others -ne 2 ] || exit 2; \
	$(BIN)/python -m pytest -m "$(1)(ray or dist)" $(ARGS) -n 0; \
	case $$others$$? in 00|05|50) ;; *) exit 1 ;; esac
endef

test: $(READY) ## the tests, but for the slow ones
	$(call run_tests,not slow and )

test-all: $(READY) ## all tests
	$(call run_tests)

lint: $(READY) ## style and types
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy

format: $(READY) ## format the code
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

browser: ## install Chromium, which the tests of the report's page look for (Debian, as root)
	@.ci/install-packages chromium

data: ## install Fashion-MNIST, 60,000 real images for its workloads (Debian, as root)
	@.ci/install-packages dataset-fashion-mnist

clean: ## remove the virtual environment and caches, not the results
	rm -rf $(VENV) .ruff_cache .mypy_cache build *.egg-info
