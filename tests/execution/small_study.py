"""One run of real vLLM for two modules of tests: sweeps/paper-small.toml with the demo's block of six clocks.

`make sweep` runs sweeps/demo.toml: the same two models, the same three tasks, at the same operating points.
"""

import tomllib
from dataclasses import dataclass
from pathlib import Path

import pytest

from runner.spec.sweep import SweepSpec, load_sweep, parse_sweep
from runner.spec.trial import expand_trials
from tests.execution.sweep_process import SweepProcess
from tests.witness import Witness

ROOT = Path(__file__).parents[2]
FILE = ROOT / "sweeps" / "paper-small.toml"
DEMO = load_sweep(ROOT / "sweeps" / "demo.toml")
PREFILL_TASK = "tiny_commonsense"


def _add_the_demos_clocks() -> str:
    """Return the study's file with the demo's override: one block from the highest clock to the lowest."""
    (override,) = DEMO.override
    clocks = ", ".join(f'"{clock}"' if isinstance(clock, str) else str(clock) for clock in override.sm_clock or ())
    return (
        f"{FILE.read_text(encoding='utf-8')}\n[[override]]\n"
        f'model = "{override.model}"\ntask = "{override.task}"\nsm_clock = [{clocks}]\n'
    )


TEXT = _add_the_demos_clocks()
SWEEP: SweepSpec = parse_sweep(tomllib.loads(TEXT))
BLOCKS = expand_trials(SWEEP)


@dataclass(frozen=True, kw_only=True)
class SmallStudy:
    """The run: where it lies, and how busy the machine was meanwhile."""

    folder: Path
    """Holds the simulated GPU's state, in gpus/."""
    directory: Path
    machine: Witness


def run_small_study(folder: Path) -> SmallStudy:
    """Run the study as a person does. It takes eight minutes on two idle cores, and longer on busy ones."""
    file, directory = folder / "paper-small.toml", folder / "run"
    file.write_text(TEXT, encoding="utf-8")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(ROOT)  # the sweep's models are named from there
        run = SweepProcess(file, directory, folder, engine="vllm")
    try:
        with Witness() as machine:
            assert run.wait(3000) == 0, run.output
    finally:
        run.end()
    print(run.output[-8000:], f"\na thread that only sleeps lost {machine.lost_s:.1f} s")
    return SmallStudy(folder=folder, directory=directory, machine=machine)
