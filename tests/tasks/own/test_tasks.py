"""The data of our own tasks: their generator makes it, it does not leak, and the YAML describes it."""

import itertools
import json
import os
import sys
from pathlib import Path

import pytest

from runner.spec.sweep import TaskSpec
from runner.tasks.harness import loading as harness_loading
from runner.tasks.loading import describe_task, load_task
from runner.tasks.own.tasks import OWN_FOLDER, load_own_task, own_task_names, read_own_config, read_rows

ROOT = Path(__file__).parents[3]
sys.path.insert(0, str(ROOT / "scripts"))
import make_task_data as data  # noqa: E402
import tiny_passages as passages  # noqa: E402

NUM_TRAINING_PAGES = 5000
TASKS = ("tiny_commonsense", "tiny_facts", "tiny_qa")


def draw_training(name):
    """Return the documents of the first training pages."""
    pages = itertools.islice(data.training_pages(name, 0), NUM_TRAINING_PAGES)
    return [document for page in pages for document in page]


def test_names():
    assert own_task_names() == TASKS


@pytest.mark.parametrize("name", TASKS)
def test_shipped_questions_are_what_the_generator_writes(name):
    lines = (OWN_FOLDER / f"{name}_test.jsonl").read_text(encoding="utf-8").splitlines()
    assert lines == [json.dumps(document) for document in data.test_documents(name)]
    assert len(lines) >= 200
    assert len({data.prompt_of(json.loads(line)) for line in lines}) == len(lines)


@pytest.mark.parametrize("name", TASKS)
def test_no_test_question_is_in_training(name):
    test = {data.prompt_of(document) for document in read_rows(OWN_FOLDER / f"{name}_test.jsonl")}
    assert not test & {data.prompt_of(document) for document in draw_training(name)}


def test_pairs_of_thing_and_event_are_held_out():
    test = {document["pair"] for document in read_rows(OWN_FOLDER / "tiny_commonsense_test.jsonl")}
    training = draw_training("tiny_commonsense")
    assert not test & {document["pair"] for document in training}


def test_facts_are_asked_for_in_words_that_training_does_not_use():
    test = read_rows(OWN_FOLDER / "tiny_facts_test.jsonl")
    training = draw_training("tiny_facts")
    assert not {document["question"] for document in test} & {document["question"] for document in training}
    assert {document["answer"] for document in test} <= {document["answer"] for document in training}


def candidates(row):
    """Return the phrases of a passage of the kind that the question asks for: people, things or places."""
    (phrases,) = [
        phrases for phrases in (passages._PEOPLE, passages._THINGS, passages._PLACES) if row["answer"] in phrases
    ]
    return [phrase for phrase in phrases if phrase in row["passage"]]


@pytest.mark.parametrize("name", TASKS)
def test_stated_chance_is_that_of_the_stated_guess(name):
    rows = read_rows(OWN_FOLDER / f"{name}_test.jsonl")
    if name == "tiny_qa":
        chance = sum(1 / len(candidates(row)) for row in rows) / len(rows)
    elif name == "tiny_commonsense":
        chance = sum(1 / len(set(row["choices"])) for row in rows) / len(rows)
    else:
        atlas = data.make_atlas(data.SEED)
        values = {fact.value: fact.attribute for fact in atlas}
        num_values = {a: len({f.value for f in atlas if f.attribute == a}) for a in data.TEST_QUESTIONS}
        chance = sum(1 / num_values[values[row["answer"]]] for row in rows) / len(rows)
    assert read_own_config(name)["metadata"]["chance"] == pytest.approx(chance, abs=0.005 * chance)


@pytest.mark.parametrize("name", TASKS)
def test_prompts_of_the_yaml_are_those_of_training(name):
    task = load_own_task(name)
    rows = read_rows(OWN_FOLDER / f"{name}_test.jsonl")
    assert [task.doc_to_text(row) for row in rows] == [data.prompt_of(row) for row in rows]
    targets = [task.doc_to_target(row) for row in rows]
    if name == "tiny_commonsense":
        targets = [row["choices"][target] for row, target in zip(rows, targets, strict=True)]
    assert [f" {target}" for target in targets] == [data.answer_of(row) for row in rows]


@pytest.mark.parametrize("name", TASKS)
def test_loads_anywhere_without_the_index_or_a_network(name, tmp_path, monkeypatch, capfd):
    def refuse(*_):
        raise AssertionError("our own tasks need no index and no network")

    monkeypatch.setattr(harness_loading, "read_index", refuse)
    monkeypatch.setattr("socket.getaddrinfo", refuse)
    monkeypatch.chdir(tmp_path)
    task = load_task(TaskSpec(name=name, limit=3, num_fewshot=1), seed=0)
    assert len(task.samples()) == 3
    assert "\n\n" in task.samples()[0].text
    assert capfd.readouterr().err == ""
    assert os.listdir(tmp_path) == []


@pytest.mark.parametrize("name", TASKS)
def test_token_counts_are_as_described(name):
    from transformers import AutoTokenizer

    encode = AutoTokenizer.from_pretrained(ROOT / "models" / "joulesweep-small").encode
    task = load_task(TaskSpec(name=name), seed=0)
    requests = task.requests(encode, max_model_len=1024, vocab_size=1024)
    description = describe_task(name)
    assert description.request_kind == task.request_kind
    mean = sum(len(request.prompt_token_ids) for request in requests) / len(requests)
    assert description.num_prompt_tokens_mean == pytest.approx(mean, rel=0.05)
    if task.request_kind == "generate":
        answers = [len(encode(data.answer_of(row) + "\n")) - 1 for row in read_rows(OWN_FOLDER / f"{name}_test.jsonl")]
        assert description.num_output_tokens_mean == pytest.approx(sum(answers) / len(answers), abs=0.5)
    else:
        assert description.num_output_tokens_mean == 0
