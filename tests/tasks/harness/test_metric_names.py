"""Checks that a task's YAML gives the same metrics as the harness does after it has loaded the task."""

import subprocess
import sys

import pytest

from runner.tasks.harness.metric_names import MetricNames
from runner.tasks.loading import read_metric_names
from runner.tasks.own.tasks import load_own_task, own_task_names
from runner.tasks.study.tasks import STUDY_TASKS


@pytest.mark.parametrize("name", own_task_names())
def test_names_are_those_of_the_loaded_task(name: str) -> None:
    names, task = read_metric_names(name), load_own_task(name)
    assert names is not None
    assert names.metrics == tuple(task.aggregation())
    assert names.filters == tuple(ensemble.name for ensemble in task._filters)


@pytest.mark.parametrize("name", STUDY_TASKS)
def test_the_metric_of_each_task_of_the_study_is_among_them(name: str) -> None:
    names = read_metric_names(name)
    assert names is not None
    assert names.find(STUDY_TASKS[name].metric)


def test_what_a_file_includes_counts_and_its_own_keys_come_first(tmp_path) -> None:
    (tmp_path / "base").mkdir()
    (tmp_path / "base" / "root.yaml").write_text("metric_list: [{metric: f1}]\nfilter_list: [{name: strict}]\n")
    (tmp_path / "base" / "middle.yaml").write_text("include: root.yaml\nprocess_docs: !function utils.process\n")
    (tmp_path / "task.yaml").write_text("include: [base/middle.yaml]\nmetric_list: [{metric: acc}, {metric: mcc}]\n")
    assert MetricNames.read(tmp_path / "task.yaml") == MetricNames(metrics=("acc", "mcc"), filters=("strict",))


@pytest.mark.parametrize(
    "text",
    ["task: a", "metric_list: [{metric: !function utils.score}]", "class: !function x.Y\nmetric_list: [{metric: acc}]"],
)
def test_what_python_code_decides_is_not_known(tmp_path, text: str) -> None:
    (tmp_path / "task.yaml").write_text(text)
    assert MetricNames.read(tmp_path / "task.yaml") is None


def test_a_filter_may_be_named_and_what_was_meant_is_guessed() -> None:
    names = read_metric_names("gsm8k")
    assert names == MetricNames(metrics=("exact_match",), filters=("strict-match", "flexible-extract"))
    assert names.find("exact_match") == ("exact_match", "strict-match")
    assert names.find("exact_match,flexible-extract") == ("exact_match", "flexible-extract")
    assert names.find("exact_match,none") is None
    assert names.find("acc") is None
    has = "exact_match (filters: strict-match, flexible-extract)"
    assert names.describe("acc") == has
    assert names.describe("exact-match") == f'{has}; did you mean "exact_match"?'
    assert names.describe("exact_match,strict") == f'{has}; did you mean "exact_match,strict-match"?'


def test_reading_them_loads_no_harness() -> None:
    program = (
        "import sys\nfrom runner.tasks.loading import read_metric_names\nassert read_metric_names('tiny_qa')\n"
        "print([name for name in ('lm_eval', 'torch', 'datasets') if name in sys.modules])"
    )
    result = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert result.stdout == "[]\n"
