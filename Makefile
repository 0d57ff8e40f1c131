# Everything sets itself up: `make sweep` in a fresh clone is enough.
#   make sweep [GPU=all|auto|0,2|sim|sim:h200x4] [SWEEP=sweeps/x.toml] [ARGS="--fresh --plain"]

GPU ?= auto
SWEEP ?= sweeps/demo.toml
ARGS ?=
PYTHON ?= python3
VENV := .venv
# Ray starts six Python processes and vLLM two more. Without bytecode on disk each of them compiles all that it imports.
unexport PYTHONDONTWRITEBYTECODE
BIN := $(VENV)/bin
# The newest run directory.
RUN ?= $(patsubst %/manifest.json,%,$(shell ls -t runs/*/manifest.json 2>/dev/null | head -n 1))

.PHONY: sweep plan test test-fast check bench kill-campaign report doctor lock setup clean

sweep: setup
	$(BIN)/sweep run $(SWEEP) --gpu $(GPU) $(ARGS)

plan: setup
	$(BIN)/sweep plan $(SWEEP) --gpu $(GPU) $(ARGS)

report: setup
	$(BIN)/sweep report $(RUN) $(ARGS)

doctor: setup
	$(BIN)/sweep doctor --gpu $(GPU) $(ARGS)

# Two processes share the modules. What paces itself by a simulated GPU has the machine for itself afterwards.
IN_PARALLEL := -n 2 --dist loadfile
test: setup
ifeq ($(ARGS),)
	$(BIN)/python -m pytest $(IN_PARALLEL) -m "not paced"
	$(BIN)/python -m pytest -m paced
else
	$(BIN)/python -m pytest $(ARGS)
endif

# What needs neither an engine nor Ray, but for the slowest: about a minute on two cores.
test-fast: setup
	$(BIN)/python -m pytest $(IN_PARALLEL) -m "not vllm and not slow" $(ARGS)

check: setup
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/python scripts/count_house.py

bench: setup
	$(BIN)/python -m benchmarks $(ARGS)

# Takes half an hour on two cores. ARGS="--kills 20 --real-kills 0" runs a short one.
kill-campaign: setup
	$(BIN)/python tests/execution/kill_campaign.py $(ARGS)

setup:
	@$(PYTHON) scripts/set_up.py $(VENV)

lock: setup
	$(PYTHON) scripts/lock.py $(VENV)

clean:
	rm -rf $(VENV)
