"""The first lines of a report."""

from runner.display.text.overview import SEVERAL_GPUS, describe_counts, describe_gpus, describe_import, name_run
from tests.analysis.trial_rows import frame, trial


def test_a_run_is_named_by_its_sweep() -> None:
    assert name_run({"sweep": {"name": "clocks"}}) == "clocks"
    assert name_run({}) == "sweep"


def test_counts_name_what_is_not_sound_only_where_there_is_some() -> None:
    sound = trial(None, 1.0, energy_j=600.0)
    assert describe_counts(frame(sound, sound)) == "2 trials, 2 sound, 1.20 kJ measured"
    others = trial(990, 1.0, verdicts=["trace_gap"]), trial(990, None, status="failed")
    assert describe_counts(frame(sound, *others)) == "3 trials, 1 sound, 1 with verdicts, 1 failed, 600 J measured"
    assert describe_counts(frame()) == "0 trials, 0 sound"


def test_several_gpus_come_with_how_far_they_may_differ() -> None:
    assert describe_gpus(frame(trial(None, 1.0))) == ["gpu"]
    assert describe_gpus(frame(trial(None, 1.0), trial(None, 1.0, gpu_uuids=["GPU-b"]))) == [
        "gpu, 2 GPUs",
        SEVERAL_GPUS,
    ]
    assert describe_gpus(frame(trial(None, 1.0, gpu_name=None))) == ["unknown GPU"]


def test_an_imported_table_says_where_it_comes_from() -> None:
    imported = {"file": "grid.csv", "stands_for_default": []}
    assert describe_import({"imported": imported}) == (
        "Imported from grid.csv: measured elsewhere, and not checked by a power trace."
    )
    highest = imported | {"stands_for_default": ["SM 3090 MHz", "memory 14001 MHz"]}
    assert describe_import({"imported": highest}).endswith(
        " It names no default clock; its highest clocks (SM 3090 MHz and memory 14001 MHz) stand for it."
    )
