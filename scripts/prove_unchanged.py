"""Does a refactored checkout find what another version found? Every sweep of `proof_cases.py` in virtual time, twice.

    python scripts/prove_unchanged.py OLD_CHECKOUT [--only NAME ...] [--keep DIR] [--new CHECKOUT]
                                      [--tolerance 0] [--reworded] [--redrawn]

Another checkout with its own .venv enters; a line a sweep leaves, and exit code 0 if all are equal. Both sides run the
same sweep files on the same simulated GPUs, each from its own folder. Their virtual time starts at round instants
(`proof/site/sitecustomize.py`): runs of one version are equal to the last bit, so that nothing need be tolerated.

    DIR/sweeps/NAME.toml          what is run, tasks with data on the network replaced and long sweeps shortened
    DIR/old/NAME/, DIR/new/NAME/  the run directory run/ with `sweep report`'s output, all output, the GPUs' state
    DIR/new/NAME/comparison.txt   what `compare_runs.py` says of both
    DIR/new/rewordings.txt        with --reworded, every sentence that has other words around the same numbers

The old side is kept and runs again only if the sweep, the faults or the old checkout's commit have changed.
"""

import argparse
import hashlib
import io
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Sequence
from contextlib import redirect_stdout
from dataclasses import asdict
from pathlib import Path

from compare_runs import compare_runs, print_comparisons
from compare_texts import compare_texts, read_text
from proof_cases import CASES, CHECKOUT, SCRIPTS, Case, write_sweep
from run_difference import Allowed, Comparison

SITE = SCRIPTS / "proof" / "site"
COMMAND_LIMIT_S = 1200
DRAWN = ("report.txt", "report.html", "report.html plots")
"""What the report makes of the tables. With --redrawn its differences are counted and make no mismatch."""
COLUMNS = "250"
"""Wide enough for every column of the terminal's tables."""
LIMITS = ("--max-slowdown", "10%", "--max-ttft", "2s", "--max-tpot", "60ms")
"""That the kept report's recommendations keep to; the run's own report is without."""


class ProofError(Exception):
    """A side of the proof could not be run."""


def main() -> int:
    """Run and compare what is asked for."""
    arguments = _parse()
    folder: Path = arguments.keep.resolve()
    cases = [case for case in CASES if not arguments.only or case.name in arguments.only]
    old, new = (checkout.resolve() for checkout in (arguments.old, arguments.new))
    for checkout in {old, new}:
        _require_own_program(checkout)
    allowed = Allowed(tolerance=arguments.tolerance, reworded=arguments.reworded)
    num_equal, num_redrawn, rewordings = 0, 0, Counter[tuple[str, str]]()
    for case in cases:
        sweep, changes = write_sweep(case, folder / "sweeps")
        if changes:
            print(f"{case.name:<22} {'; '.join(changes)}", flush=True)
        old_s = _run_case(case, sweep, old, folder / "old" / case.name, keeps=True)
        new_s = _run_case(case, sweep, new, folder / "new" / case.name, keeps=False)
        results = _compare(folder, case, allowed)
        drawn = [result for result in results if arguments.redrawn and result.name in DRAWN]
        num_drawn = sum(len(result.mismatches) for result in drawn)
        num_mismatches = sum(len(result.mismatches) for result in results) - num_drawn
        sizes = {result.name: result.size_old for result in results}
        size = f"{sizes['trials']:,} trials" if "trials" in sizes else "no trials"
        times = f"old {'kept' if old_s is None else f'{old_s:.0f} s'}, new {new_s:.0f} s"
        word = f"{num_mismatches} MISMATCHES: {folder / 'new' / case.name / 'comparison.txt'}"
        print(f"{case.name:<22} {size:>11}  {times:<22} {word if num_mismatches else 'equal'}", flush=True)
        num_equal += not num_mismatches
        num_redrawn += num_drawn
        rewordings.update(pair for result in results for pair in result.rewordings)
    if rewordings:
        _write_rewordings(folder / "new" / "rewordings.txt", rewordings)
    if num_redrawn:
        print(f"{num_redrawn} lines and values of reports are drawn in another way: {folder}/new/*/comparison.txt")
    print(f"{len(cases)} sweeps, {num_equal} equal")
    return 0 if num_equal == len(cases) else 1


def _parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("old", type=Path, metavar="OLD_CHECKOUT", help="a checkout with .venv/bin/sweep")
    names = [case.name for case in CASES]
    parser.add_argument("--only", nargs="+", choices=names, metavar="NAME", help=f"of {', '.join(names)}")
    default = Path(tempfile.gettempdir()) / f"joulesweep-proof-{os.getuid()}"
    parser.add_argument("--keep", type=Path, default=default, metavar="DIR", help=f"default {default}")
    parser.add_argument("--new", type=Path, default=CHECKOUT, metavar="CHECKOUT", help="default: this one")
    parser.add_argument("--tolerance", type=float, default=0.0, help="relative; default 0: equal to the last bit")
    parser.add_argument(
        "--reworded", action="store_true", help="sentences may have other words around the same numbers"
    )
    parser.add_argument("--redrawn", action="store_true", help="reports may show the same tables in another way")
    return parser.parse_args()


def _require_own_program(checkout: Path) -> None:
    """Raises: ProofError: the checkout's virtual environment runs another checkout's code."""
    command = [str(checkout / ".venv/bin/python"), "-c", "import runner; print(runner.__file__)"]
    found = subprocess.run(command, cwd="/", capture_output=True, text=True, check=True).stdout.strip()
    if not Path(found).resolve().is_relative_to(checkout):
        raise ProofError(f"{checkout}/.venv runs {found}, which is not in {checkout}")


# one side ------------------------------------------------------------------------------------------------------------


def _run_case(case: Case, sweep: Path, checkout: Path, folder: Path, *, keeps: bool) -> float | None:
    """Run one case with one checkout; returns the seconds that it took, None where an earlier run is kept."""
    mark = _fingerprint(case, sweep, checkout)
    result = folder / "result.json"
    if keeps and result.exists() and json.loads(result.read_text())["fingerprint"] == mark:
        return None
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    start_s = time.monotonic()
    exits = [_run(case, command, checkout, folder) for command in _commands(case, sweep, folder / "run")]
    if (folder / "run").is_dir():
        _keep_reports(case, checkout, folder)
    _require_faults(case, folder)
    seconds = time.monotonic() - start_s
    result.write_text(json.dumps({"fingerprint": mark, "exit_codes": exits, "seconds": seconds}))
    return seconds


def _fingerprint(case: Case, sweep: Path, checkout: Path) -> str:
    head = subprocess.run(
        ["git", "-C", str(checkout), "rev-parse", "HEAD"], capture_output=True, text=True, check=False
    )
    site = (SITE / "sitecustomize.py").read_text(encoding="utf-8")
    parts = [json.dumps(asdict(case)), sweep.read_text(encoding="utf-8"), head.stdout, site, *LIMITS]
    return hashlib.sha256("\n".join(parts).encode()).hexdigest()


def _commands(case: Case, sweep: Path, run: Path) -> list[list[str]]:
    if case.is_import:
        return [["import", str(sweep), "--out", str(run)]]
    command = ["run", str(sweep), "--gpu", case.gpu, "--engine", "simulated", "--plain", "--out", str(run)]
    command += case.arguments
    return [command] if case.stops_after is None else [[*command, "--limit", str(case.stops_after)], command]


def _run(case: Case, command: Sequence[str], checkout: Path, folder: Path) -> int:
    """Run `sweep`; its output goes to output.txt, that of the last command alone. Returns: the exit code."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("SWEEP_", "PYTHON"))}
    environment.pop("RAY_ADDRESS", None)
    environment |= {
        "PYTHONPATH": str(SITE),
        "COLUMNS": COLUMNS,
        "HF_HUB_OFFLINE": "1",
        "SWEEP_SIMULATED_STATE": str(folder / "state"),
        "SWEEP_LEASE_DIR": str(folder / "lease"),
        "SWEEP_PROOF_CONDITIONS": json.dumps(list(case.conditions)),
        "SWEEP_PROOF_FAULTS": json.dumps(list(case.faults)),
        **case.environment,
    }
    with (folder / "output.txt").open("w") as output, (folder / "errors.txt").open("a") as errors:
        whole = [str(checkout / ".venv/bin/sweep"), *command]
        done = subprocess.run(
            whole, cwd=checkout, env=environment, stdout=output, stderr=errors, timeout=COMMAND_LIMIT_S, check=False
        )
    return done.returncode


def _keep_reports(case: Case, checkout: Path, folder: Path) -> None:
    """Put what the run said at its end into its directory, and what `sweep report` says as JSON and CSV."""
    said = (folder / "output.txt").read_text(encoding="utf-8").splitlines(keepends=True)
    report = "".join(line for line in said if not line.startswith("["))  # the others are the progress, and events
    (folder / "run" / "report.txt").write_text(report, encoding="utf-8")
    if _run(case, ["report", str(folder / "run"), "--json", "--csv", *LIMITS], checkout, folder):
        raise ProofError(f"{case.name}: sweep report failed: {folder / 'errors.txt'}")
    shutil.move(folder / "output.txt", folder / "run" / "report.json")


def _require_faults(case: Case, folder: Path) -> None:
    """Raises: ProofError: what should have befallen the GPU or its driver did not reach it."""
    conditions, mark = "virtual-*/GPU-*/conditions.jsonl", "virtual-*/faults.applied"
    for wanted, pattern in ((case.conditions, conditions), (case.faults, mark)):
        if wanted and not any((folder / "state").glob(pattern)):
            raise ProofError(f"{case.name}: no fault was injected; there is no {folder}/state/{pattern}")


# both sides ----------------------------------------------------------------------------------------------------------


def _compare(folder: Path, case: Case, allowed: Allowed) -> list[Comparison]:
    """Compare both sides of a case, and write down what there is to say of it."""
    old, new = folder / "old" / case.name, folder / "new" / case.name
    exits = [json.loads((side / "result.json").read_text())["exit_codes"] for side in (old, new)]
    results = [Comparison(name="exit codes", size_old=len(exits[0]), size_new=len(exits[1]))]
    if exits[0] != exits[1]:
        results[0].mismatches.append(f"{exits[0]} → {exits[1]}")
    has_trials = [(side / "run" / "trials.parquet").exists() for side in (old, new)]
    if all(has_trials):
        results += compare_runs(old / "run", new / "run", allowed)
    elif any(has_trials):
        problem = (new / "errors.txt").read_text(encoding="utf-8").strip()[-1000:]
        results[0].mismatches.append(f"one side alone has trials; the new one says: {problem or 'nothing'}")
    else:  # refused: what it said is all there is
        texts = [[*read_text(side / "output.txt", side), *read_text(side / "errors.txt", side)] for side in (old, new)]
        results.append(compare_texts("output", texts[0], texts[1], allowed))
    with io.StringIO() as said, redirect_stdout(said):
        print_comparisons(results)
        (new / "comparison.txt").write_text(said.getvalue(), encoding="utf-8")
    return results


def _write_rewordings(path: Path, rewordings: Counter[tuple[str, str]]) -> None:
    lines = [f"{number} ×\n- {before}\n+ {after}\n" for (before, after), number in rewordings.most_common()]
    path.write_text("".join(lines), encoding="utf-8")
    print(f"{len(rewordings)} sentences were reworded: {path}")


if __name__ == "__main__":
    try:
        sys.exit(main())
    except ProofError as problem:
        sys.exit(f"prove_unchanged: {problem}")
