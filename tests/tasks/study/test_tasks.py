"""The study's tasks, over stand-in rows with the columns of the public data sets. No test needs a network."""

import re
from pathlib import Path

import pytest

from runner.spec.sweep import TaskSpec
from runner.tasks.loading import check_task_name, describe_task, load_task
from runner.tasks.study.tasks import STUDY_TASKS, study_file
from runner.tasks.task import TaskError
from tests.tasks.study.stand_ins import complete, encode


@pytest.mark.parametrize("name", STUDY_TASKS)
def test_each_task_is_what_the_table_says(name):
    study_task = STUDY_TASKS[name]
    task = load_task(TaskSpec(name=name, limit=5), seed=0)
    requests = task.requests(encode, max_model_len=8192, vocab_size=2000)
    about = describe_task(name)
    assert task.request_kind == about.request_kind == study_task.request_kind
    assert len(requests) == 5 * study_task.num_requests_per_document
    assert task.metric.name == study_task.metric
    assert task.metric.higher_is_better
    assert (about.num_output_tokens_mean == 0) == (task.request_kind == "loglikelihood")


def test_a_sweep_may_name_another_metric():
    assert load_task(TaskSpec(name="hellaswag", quality_metric="acc"), seed=0).metric.name == "acc"
    assert load_task(TaskSpec(name="truthfulqa_gen", quality_metric="bleu_acc"), seed=0).metric.name == "bleu_acc"
    with pytest.raises(TaskError, match="has no quality_metric 'acc'"):
        load_task(TaskSpec(name="boolq_generate", quality_metric="acc"), seed=0)


@pytest.mark.parametrize("name", ["boolq_generate", "hellaswag_generate", "narrativeqa", "narrativeqa_summary"])
def test_ours_are_found_without_the_harnesss_index(name, monkeypatch):
    monkeypatch.setattr("runner.tasks.harness.loading.read_index", lambda: pytest.fail("the index was read"))
    check_task_name(name)
    assert study_file(name).is_file()


def test_the_harnesss_own_are_left_to_it():
    assert {name for name in STUDY_TASKS if study_file(name) is None} == {"boolq", "hellaswag", "truthfulqa_gen"}


def test_both_forms_of_boolq_ask_in_the_same_words():
    generating, choosing = (
        load_task(TaskSpec(name=name, num_fewshot=0), seed=0).samples() for name in ("boolq_generate", "boolq")
    )
    assert [sample.text for sample in generating] == [sample.text for sample in choosing]
    assert generating[3].text == "Thing 3 rolls.\nQuestion: is thing 3 round?\nAnswer:"


@pytest.mark.parametrize(
    ("name", "solved"), [("boolq_generate", r"Answer: (yes|no)\n\n"), ("hellaswag_generate", r"Answer: [A-D]\n\n")]
)
def test_generative_forms_show_two_solved_examples(name, solved):
    prompt = load_task(TaskSpec(name=name), seed=0).samples()[0].text
    assert len(re.findall(solved, prompt)) == 2
    assert prompt.endswith("Answer:")


@pytest.mark.parametrize(
    ("answer", "is_right"),
    [(" yes", 1.0), (" Yes, it is.", 1.0), ("\n", 0.0), (" no", 0.0), (" yesterday", 0.0), (" I say yes", 0.0)],
)
def test_a_boolq_answer_is_its_first_word(answer, is_right):
    task = load_task(TaskSpec(name="boolq_generate"), seed=0)
    quality = task.score(complete(task, lambda number: answer if number % 2 else " no"))
    assert quality.per_sample["boolq_generate/1"] == is_right
    assert quality.per_sample["boolq_generate/0"] == 1.0
    assert quality.value == pytest.approx((1 + is_right) / 2)
    assert quality.stderr > 0 if is_right == 0 else quality.stderr == 0


def test_a_truthful_answer_is_nearer_to_a_true_reference():
    task = load_task(TaskSpec(name="truthfulqa_gen", limit=2), seed=0)
    quality = task.score(complete(task, ["\nA: It passes through you.", "\nA: A tree grows inside you."].__getitem__))
    assert list(quality.per_sample.values()) == [1.0, 0.0]
    assert quality.stderr == pytest.approx(0.5)


def test_the_docs_show_the_table_that_plans_use():
    text = (Path(__file__).parents[3] / "docs" / "study.md").read_text(encoding="utf-8")
    for name, task in STUDY_TASKS.items():
        row = re.search(rf"^\| {name} \| ([\d,]+) \| (\d+) \| ([\d,]+)[^|]*\| (\d+) \|$", text, re.M)
        assert row, name
        shown = [int(number.replace(",", "")) for number in row.groups()]
        assert shown == [
            task.num_documents,
            task.num_requests_per_document,
            task.num_prompt_tokens,
            task.num_output_tokens,
        ]
        kind = "generating" if task.request_kind == "generate" else "prefill only"
        assert re.search(rf"^\| `{name}`[^|]*\| {kind} \|", text, re.M), name
