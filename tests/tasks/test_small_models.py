"""Checks the numbers in models/README.md with transformers, on the shipped weights."""

import re
import sys
from pathlib import Path

import pytest

from runner.tasks.own.tasks import own_task_names, read_own_config

ROOT = Path(__file__).parents[2]
README = ROOT / "models" / "README.md"
sys.path.insert(0, str(ROOT / "scripts"))
import evaluate_small_models as evaluation  # noqa: E402

SMALL, LARGE = evaluation.MODELS


@pytest.fixture(scope="module")
def scores():
    return evaluation.score_all(ROOT / "models")


@pytest.mark.parametrize("name", evaluation.MODELS)
@pytest.mark.parametrize("task", own_task_names())
def test_each_model_beats_a_guess_on_each_task(scores, name, task):
    low, _ = evaluation.wilson_interval(scores[name][task])
    assert low > read_own_config(task)["metadata"]["chance"]


@pytest.mark.parametrize("task", ["tiny_commonsense", "tiny_facts"])  # on tiny_qa their scores are too close
def test_the_larger_model_is_better(scores, task):
    low, _ = evaluation.paired_interval(scores[LARGE][task], scores[SMALL][task])
    assert low > 0


def test_the_larger_model_is_better_over_all(scores):
    pooled = {name: [is_right for task in scores[name].values() for is_right in task] for name in scores}
    low, _ = evaluation.paired_interval(pooled[LARGE], pooled[SMALL])
    assert low > 0


def test_the_readme_shows_these_numbers(scores):
    rows = re.findall(r"^\| (\w+) \| (\d+) \|[^|]*\| ([\d.]+) [^|]*\| ([\d.]+) ", README.read_text("utf-8"), re.M)
    shown = {task: (int(num), float(small), float(large)) for task, num, small, large in rows}
    for task in own_task_names():
        num, small, large = shown[task]
        assert num == len(scores[SMALL][task])
        # Another CPU may round differently in one question of a hundred.
        assert small == pytest.approx(sum(scores[SMALL][task]) / num, abs=0.01)
        assert large == pytest.approx(sum(scores[LARGE][task]) / num, abs=0.01)


def test_the_folders_are_small_and_hold_what_loaders_want():
    files = [path for path in (ROOT / "models").rglob("*") if path.is_file()]
    assert sum(path.stat().st_size for path in files) < 8_000_000
    for name in evaluation.MODELS:
        present = {path.name for path in (ROOT / "models" / name).iterdir()}
        assert present == {
            "config.json",
            "generation_config.json",
            "model.safetensors",
            "tokenizer.json",
            "tokenizer_config.json",
        }
