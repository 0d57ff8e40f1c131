"""How a run was measured and judged, and what it can be traced back by."""

from runner.display.text.method import describe_method, describe_provenance
from tests.display.studies import MANIFEST


def test_a_measured_run_says_how_trials_and_changes_come_about() -> None:
    trial, compared, mixed, front = describe_method(imported=False, is_default_only=False)
    assert "the integral of the GPU's power samples over the window" in trial
    assert compared.startswith("Every operating point is compared with the default clock just before and after each")
    assert "Bonferroni" in compared
    assert "mean of the changes" in mixed
    assert front == "The Pareto front compares means only."


def test_an_imported_table_has_no_window_and_no_pairs() -> None:
    compared, _, _ = describe_method(imported=True, is_default_only=False)
    assert compared.startswith("Every operating point is compared with the default clock. ")


def test_the_default_clock_alone_is_compared_with_nothing() -> None:
    texts = list(describe_method(imported=False, is_default_only=True))
    assert texts[1:] == ["Intervals are 95 %.", "The Pareto front compares means only."]


def test_a_run_is_traced_back_to_gpus_versions_and_commands() -> None:
    assert list(describe_provenance(MANIFEST | {"git_revision": "abc"})) == [
        ("GPU", "NVIDIA H200, GPU-a, driver 580"),
        ("versions", "joulesweep 0.1.0"),
        ("revision", "abc"),
        ("run", "2026-11-23 to 2026-11-24: sweep run clocks.toml"),
    ]
    [run] = [text for term, text in describe_provenance({"runs": [{"start": "a", "end": None, "command": "c"}]})
             if term == "run"]  # fmt: skip
    assert run == "a to now: c"
