# Everything sets itself up: `make sweep` in a fresh clone is enough.
#   make sweep [GPU=all|auto|0,2|sim|sim:h200x4] [SWEEP=sweeps/x.toml] [ARGS="--fresh --plain"]

GPU ?= auto
SWEEP ?= sweeps/demo.toml
ARGS ?=
PYTHON ?= python3
VENV := .venv
# Ray starts six Python processes and vLLM two more: without bytecode on disk each of them compiles all that it imports.
unexport PYTHONDONTWRITEBYTECODE
BIN := $(VENV)/bin
# The last run: a command that was refused leaves a directory without a manifest.
RUN ?= $(patsubst %/manifest.json,%,$(shell ls -t runs/*/manifest.json 2>/dev/null | head -n 1))

.PHONY: sweep plan test check bench kill-campaign report doctor lock setup clean

sweep: setup
	$(BIN)/sweep run $(SWEEP) --gpu $(GPU) $(ARGS)

plan: setup
	$(BIN)/sweep plan $(SWEEP) --gpu $(GPU) $(ARGS)

report: setup
	$(BIN)/sweep report $(RUN) $(ARGS)

doctor: setup
	$(BIN)/sweep doctor --gpu $(GPU) $(ARGS)

test: setup
	$(BIN)/python -m pytest $(ARGS)

check: setup
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports

bench: setup
	$(BIN)/python -m benchmarks $(ARGS)

# Half an hour on two cores; ARGS="--kills 20 --real-kills 0" is a taste of it.
kill-campaign: setup
	$(BIN)/python tests/execution/kill_campaign.py $(ARGS)

setup:
	@$(PYTHON) scripts/set_up.py $(VENV)

lock: setup
	$(PYTHON) scripts/lock.py $(VENV)

clean:
	rm -rf $(VENV)
