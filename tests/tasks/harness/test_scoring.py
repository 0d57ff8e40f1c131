"""Checks that the same answers get the same score as from the harness's own `evaluate`."""

import random

import pytest
from lm_eval.api.task import ConfigurableTask
from lm_eval.evaluator import evaluate

from runner.tasks.harness.scoring import NUM_BOOTSTRAP
from runner.tasks.task import TaskError
from tests.tasks.harness.canned import CHOICES, CONTINUATION, GENERATIVE, CannedModel, answer, make_config, make_task


@pytest.mark.parametrize(
    ("parts", "key"),
    [
        (GENERATIVE, "exact_match,whole"),
        (GENERATIVE, "exact_match,number"),
        (CHOICES, "acc,none"),
        (CHOICES, "acc_norm,none"),
        (CHOICES, "mcc,none"),
        (CONTINUATION, "perplexity,none"),
        (CONTINUATION, "acc,none"),
    ],
)
@pytest.mark.parametrize("num_fewshot", [0, 2])
def test_scores_are_the_harnesss_own(tmp_path, monkeypatch, parts, key, num_fewshot):
    monkeypatch.setenv("DISABLE_MULTIPROC", "1")
    metric, filter_name = key.split(",")
    config = make_config(tmp_path, **parts)
    task = make_task(config, limit=30, num_fewshot=num_fewshot, quality_metric=key, seed=11)
    completions = answer(task)
    random.Random(0).shuffle(completions)
    quality = task.score(completions)

    theirs = ConfigurableTask(config=make_config(tmp_path, **parts))
    theirs.set_config("num_fewshot", num_fewshot)
    theirs.set_fewshot_seed(11)
    if parts is GENERATIVE:  # the harness's backends cut answers at the stops
        monkeypatch.setattr(CannedModel, "continue_text", staticmethod(cut(CannedModel.continue_text)))
    results = evaluate(
        lm=CannedModel(), task_dict={"tasks": {"sums": theirs}}, limit=30, bootstrap_iters=NUM_BOOTSTRAP
    )["results"]["sums"]
    assert quality.value == results[key]
    assert quality.stderr == results[f"{metric}_stderr,{filter_name}"]
    assert quality.value != 0
    assert quality.metric == metric
    assert quality.higher_is_better is (metric != "perplexity")
    if metric in ("mcc", "perplexity"):
        assert not quality.per_sample
    else:
        assert sum(quality.per_sample.values()) / 30 == pytest.approx(quality.value)
        assert set(quality.per_sample) == {sample.sample_id for sample in task.samples()}


def cut(continue_text):
    return lambda context: continue_text(context).split("\n")[0].split(".")[0]


def test_the_first_metric_is_taken_and_an_unknown_one_is_named(tmp_path):
    assert make_task(make_config(tmp_path, **CHOICES)).metric.name == "acc"
    with pytest.raises(TaskError, match="has no quality_metric 'f1'; it has: acc, acc_norm, mcc"):
        make_task(make_config(tmp_path, **CHOICES), quality_metric="f1")
