"""The report's numbers are checked by hand here; how it looks is in tests/display/golden/report_*.txt."""

import polars as pl
import pytest
from rich.cells import cell_len

from runner.analysis.summary import summarise_operating_points
from runner.display.findings import describe_block, describe_quality
from runner.display.report import build_columns, fit_columns, render_report
from runner.results import tables

MINUS = "\N{MINUS SIGN}"
MANIFEST = {"sweep": {"name": "clocks-small"}}


def trial(clock: int | None, joules: float | None, latency_s: float, **columns) -> dict:
    generate = columns.get("request_kind", "generate") == "generate"
    energy = "joules_per_output_token" if generate else "joules_per_prompt_token"
    return {
        "block_id": "qa",
        "model": "small",
        "task": "tiny_qa",
        "request_kind": "generate",
        "concurrency": 4,
        "is_sentinel": False,
        "sm_clock_mhz_requested": clock,
        "gpu_uuids": ["SIM-0"],
        "gpu_name": "NVIDIA H200 (simulated)",
        "simulated": True,
        "status": "ok",
        "verdicts": [],
        "sm_clock_mhz": 1980.0 if clock is None else float(clock),
        "energy_j": 100.0,
        "mean_power_w": 500.0,
        energy: joules,
        "output_tokens_per_s": 4 * 32 / latency_s,
        "requests_per_s": 4 / latency_s,
        "latency_s_p50": latency_s,
        "tpot_s_p50": latency_s / 32,
        "quality": 0.62,
        "quality_metric": "exact_match",
        "quality_higher_is_better": True,
        "quality_stderr": 0.03,
    } | columns


def frame(*rows: dict) -> pl.DataFrame:
    return pl.DataFrame(list(rows), schema=tables.TRIALS)


TRIALS = frame(
    # default: 0.50, 0.52, 0.54 -> 0.52; latency 1.00
    trial(None, 0.50, 1.0, is_sentinel=True),
    trial(None, 0.52, 1.0),
    trial(None, 0.54, 1.0, is_sentinel=True),
    # 990 MHz: 0.38, 0.40, 0.42 -> 0.40, 23.1 % less; latency 1.04, 4.0 % slower; one trial left out
    trial(990, 0.38, 1.03, quality=0.61),
    trial(990, 0.40, 1.04, quality=0.61),
    trial(990, 0.42, 1.05, quality=0.61),
    trial(990, 0.10, 1.04, verdicts=["clock_not_held", "trace_gap"]),
    # 345 MHz: two repeats, no error; 1.56 is three times the default
    trial(345, 1.55, 3.0, verdicts=["trace_gap"]),
    trial(345, 1.57, 3.0, verdicts=["trace_gap"]),
    trial(1500, None, 1.0, status="failed", error="engine died:\nout of memory", energy_j=None),
    # a loglikelihood task without a score, with the default clock best
    *(
        trial(clock, joules, 0.5, block_id="cloze", task="tiny_cloze", request_kind="loglikelihood", tpot_s_p50=None,
              output_tokens_per_s=None, quality=None, quality_stderr=None, quality_metric=None,
              quality_reason="random weights answer nothing")
        for clock, joules in ((None, 0.0081), (990, 0.0125))
    ),
)  # fmt: skip


@pytest.mark.parametrize("width", [80, 120])
def test_report_looks_as_it_did(width, render, check_golden):
    check_golden(f"report_{width}", render(render_report(TRIALS, MANIFEST, width), width, 100), width)


@pytest.mark.parametrize("width", [80, 120])
def test_numbers_agree_with_arithmetic_by_hand(width, render):
    text = render(render_report(TRIALS, MANIFEST, width), width, 100)
    [row] = [line for line in text.splitlines() if line.startswith("▸      990")]
    assert row.split()[:6] == ["▸", "990", "→", "990", "0.400", *(["0.012"] if width == 120 else [f"{MINUS}23.1"])]
    assert f" {MINUS}23.1 " in row  # 0.40 / 0.52 - 1
    assert " +4.0 " in row
    assert "3/4" in row
    [slow] = [line for line in text.splitlines() if line.startswith("!      345")]
    assert "1.560" in slow
    assert "+200.0" in slow
    assert "12 trials, 8 sound, 3 with verdicts, 1 failed, 1.10 kJ measured" in text


def test_every_table_of_a_simulated_run_says_so(render):
    text = render(render_report(TRIALS, MANIFEST, 80), 80, 100)
    assert text.count("in flight · SIMULATED BOARD") == 2
    real = TRIALS.with_columns(simulated=pl.lit(False))
    assert "SIMULATED" not in render(render_report(real, MANIFEST, 80), 80, 100)


@pytest.mark.parametrize("width", [40, 50, 60, 70, 80, 90, 100, 110, 120, 160])
def test_no_number_is_cut_at_any_width(width, render):
    text = render(render_report(TRIALS, MANIFEST, width), width, 100)
    assert "…" not in text
    assert all(cell_len(line.rstrip()) <= width for line in text.splitlines())
    assert "0.400" in text
    assert "0.0081" in text


def test_columns_give_way_by_rank_and_are_named(render):
    points = summarise_operating_points(TRIALS).filter(task="tiny_qa").to_dicts()
    columns = build_columns(points)
    assert fit_columns(columns, 1000) == (columns, [])
    kept, dropped = fit_columns(columns, 80)
    assert {"energy", "change of the energy", "latency", "change of the latency", "quality"} <= {c.name for c in kept}
    assert dropped[0] == "verdicts by row"
    assert "Left out for lack of width: " in render(render_report(TRIALS, MANIFEST, 80), 80, 100)


def test_axes_are_shown_only_where_they_vary(render):
    assert "limit W" not in render(render_report(TRIALS, MANIFEST, 160), 160, 100)
    capped = frame(trial(None, 0.5, 1.0), trial(990, 0.4, 1.0, power_limit_w_requested=400.0))
    text = render(render_report(capped, MANIFEST, 160), 160, 100)
    assert "limit W" in text
    assert "least energy at 990 MHz, limit 400 W" in text


def test_several_boards_are_not_compared_silently(render):
    two = TRIALS.with_columns(gpu_uuids=pl.when(task="tiny_qa").then(pl.lit(["A"])).otherwise(pl.lit(["B"])))
    assert "Measured on 2 boards" in render(render_report(two, MANIFEST, 80), 80, 100)


def test_problems_are_counted_and_explained(render):
    text = render(render_report(TRIALS, MANIFEST, 120), 120, 100)
    assert "3 trials  trace_gap: power samples are missing" in text
    assert "1 trial  clock_not_held: " in text
    assert "1 trial  engine died: out of memory" in text


def test_an_empty_run_says_so(render):
    assert render(render_report(frame(), MANIFEST, 80), 80, 24) == "No trial has finished yet.\n"


def sentence(*rows: dict) -> str:
    return describe_block(summarise_operating_points(frame(*rows)).to_dicts())


def test_sentence_states_energy_time_and_quality():
    rows = [trial(None, 0.52, 1.0, quality=0.62), trial(990, 0.40, 1.04, quality=0.61)]
    assert sentence(*rows) == (
        "tiny_qa on small, 4 in flight: least energy at 990 MHz: 0.400 J/token, 23.1 % less than the default clock, "
        "4.0 % slower, quality unchanged within its error."
    )


def test_sentence_does_not_claim_a_saving_inside_the_error():
    default = [trial(None, joules, 1.0) for joules in (0.48, 0.50, 0.52)]
    other = [trial(1500, joules, 1.0) for joules in (0.47, 0.49, 0.51)]
    assert f"no different from the default clock within the error ({MINUS}2.0 % ± 3.2 %)" in sentence(*default, *other)


def test_sentence_when_the_default_is_best_alone_or_missing():
    assert "least energy at the default clock: 0.500 J/token; no other" in sentence(
        trial(None, 0.5, 1.0), trial(990, 0.6, 1.2)
    )
    assert "0.500 J/token at the default clock; no other operating point was measured" in sentence(
        trial(None, 0.5, 1.0)
    )
    assert "no default-clock trial" in sentence(trial(750, 0.5, 1.0), trial(990, 0.6, 1.2))
    assert "nothing can be said" in sentence(trial(None, 0.5, 1.0, verdicts=["trace_gap"]))
    assert "do not trust the comparison" in sentence(
        trial(None, 0.5, 1.0, verdicts=["trace_gap"]), trial(990, 0.4, 1.0)
    )


def test_time_falls_back_to_throughput():
    rows = [trial(clock, joules, 1.0, latency_s_p50=None, requests_per_s=rate)
            for clock, joules, rate in ((None, 0.5, 5.0), (990, 0.4, 4.0))]  # fmt: skip
    assert "25.0 % slower" in sentence(*rows)


@pytest.mark.parametrize(
    ("difference", "stderr", "higher", "text"),
    [
        (0.0, 0.03, True, "quality the same"),
        (-0.02, 0.03, True, "quality unchanged within its error"),
        (-0.05, 0.03, True, f"quality worse ({MINUS}0.050 ± 0.030)"),
        (-0.05, 0.03, False, f"quality better ({MINUS}0.050 ± 0.030)"),
        (0.05, None, True, "quality +0.050 (its error is not known)"),
        (None, None, None, "quality not known (no weights)"),
    ],
)
def test_quality_is_judged_by_its_error(difference, stderr, higher, text):
    point = {
        "quality_difference": difference,
        "quality_difference_stderr": stderr,
        "quality_higher_is_better": higher,
        "quality_reason": "no weights",
    }
    assert describe_quality(point) == text
