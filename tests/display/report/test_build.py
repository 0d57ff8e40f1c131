"""What the document of a report says, and in which order."""

import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import polars as pl

from runner.analysis.advice.common_samples import COMMON_QUALITY
from runner.analysis.study import study_trials
from runner.display.report.build import build_document
from runner.display.report.document import Sentences
from tests.display.studies import MANIFEST, make_study
from tests.display.trials import TRIALS, frame, trial

ROOT = Path(__file__).parents[3]


def models(gpu: str, large: float = 1.0) -> pl.DataFrame:
    return frame(
        *(
            trial(None, joules, 1.0, model=model, block_id=model, gpu_uuids=[uuid], joules_per_request=100 * joules)
            for model, uuid, level in (("small", "A", 0.5), ("large", gpu, large))
            for joules in (0.99 * level, level, 1.01 * level)
        )
    )


def test_models_are_compared_per_request_and_more_widely_between_gpus(draw_report):
    one, two = (draw_report(study_trials(models(gpu)), 120) for gpu in "AB")
    two = " ".join(two.split())
    assert "4 in flight: large needs 2.00 times the joules per request of small (95 %: 1.93 to 2.07)." in one
    assert "times the joules per request of small (95 %: 1.88 to 2.13, on GPUs that may differ by 5 %)" in two
    alike = draw_report(study_trials(models("B", large=0.51)), 120)
    assert "large and small cannot be told apart by joules per request: 1.02 (95 %: 0.96 to 1.08, on" in alike
    assert "Each model at its own least energy." not in draw_report(study_trials(TRIALS), 120)


def test_models_that_cut_prompts_are_compared_on_equal_samples(draw_report):
    cut = frame(trial(None, 0.5, 1.0, num_requests=40, num_truncated_requests=28, quality=0.2, quality_metric="rougeL"))
    rows = [
        {"task": "qa", "model": "long", "num_samples": 40, "num_truncated_samples": 0, "num_common_samples": 12,
         "quality": 0.25, "quality_stderr": 0.031},
        {"task": "qa", "model": "short", "num_samples": 40, "num_truncated_samples": 28, "num_common_samples": 12,
         "reason": "its metric is no mean over samples"},
    ]  # fmt: skip
    study = replace(study_trials(cut), common_quality=pl.DataFrame(rows, schema=COMMON_QUALITY))
    text = draw_report(study, 120)
    assert "70 % of the prompts were cut from the left to fit the model" in text
    assert "Quality of models" in text
    assert "On the samples that no model had to cut." in text
    assert "qa on long: 0.250 ± 0.031 on the 12 samples that no model had to cut; 0 of its 40" in text
    assert "qa on short: not compared, its metric is no mean over samples; 28 of its 40" in text
    assert "Quality of models" not in draw_report(study_trials(cut), 120)


def test_problems_are_counted_and_explained(draw_report):
    text = draw_report(study_trials(TRIALS), 120)
    assert "3 trials  trace_gap: power samples are missing" in text
    assert "1 trial  clock_not_held: " in text
    assert "1 trial failed  engine died: out of memory" in text


def test_what_to_do_comes_first_and_the_method_last() -> None:
    document = build_document(make_study(), MANIFEST)
    assert (document.title, document.notice) == ("clocks", "SIMULATED GPU")
    assert [section.title for section in document.sections] == [
        "What to do",
        "At the default clock",
        "Requests in flight",
        "Models",
        "A router between models",
        "Energy per token against the clock",
        "Time against the clock",
        "Pareto front",
        "Quality against energy",
        "Power over time",
        "What an input costs",
        "Every operating point",
        "Verdicts and failures",
        "Method",
    ]


def test_a_section_with_numbers_of_a_simulated_gpu_says_so() -> None:
    noted = {section.title for section in build_document(make_study(), MANIFEST).sections if section.notice}
    assert noted == {"At the default clock", "What an input costs"}
    real = build_document(make_study(simulated=False), MANIFEST)
    assert (real.notice, {section.notice for section in real.sections}) == ("", {""})


def test_a_sound_run_says_that_it_is_sound() -> None:
    [section] = [
        section
        for section in build_document(study_trials(frame(trial(None, 0.5, 1.0))), MANIFEST).sections
        if section.title == "Verdicts and failures"
    ]
    assert section.parts == (Sentences(texts=("None: every trial is sound.",)),)


def test_correlations_of_models_alone_have_figures_and_no_table() -> None:
    study = make_study()
    unknown = study.correlations.with_columns(
        *(pl.when(scope="all").then(None).otherwise(name).alias(name) for name in ("partial", "partial_q_value")),
        reason=pl.when(scope="all").then(pl.lit("too few prompts")).otherwise("reason"),
    )
    document = build_document(replace(study, correlations=unknown), MANIFEST)
    [section] = [section for section in document.sections if section.title == "What an input costs"]
    assert {part.kind for part in section.parts} == {"sentences", "figures"}
    assert {part.audience for part in section.parts} == {"page"}


def test_a_document_is_made_without_what_draws_or_runs() -> None:
    program = (
        "import sys\nimport runner.display.report.build\n"
        "heavy = ('vllm', 'torch', 'ray', 'altair', 'vl_convert', 'jinja2', 'rich')\n"
        "print([name for name in heavy if name in sys.modules])"
    )
    result = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, cwd=ROOT, check=True)
    assert result.stdout == "[]\n"
