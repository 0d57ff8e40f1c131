"""The study's tasks over stand-in rows in the public data sets' own columns: tests fetch nothing from a network."""

import re
from pathlib import Path

import datasets
import pytest

from runner.spec.request import Completion
from runner.spec.sweep import TaskSpec
from runner.tasks.loading import check_task_name, describe_task, load_task
from runner.tasks.study.tasks import STUDY_TASKS, study_file
from runner.tasks.task import TaskError


def make_boolq(num_rows):
    return [
        {"question": f"is thing {i} round", "passage": f"Thing {i} rolls.", "idx": i, "label": i % 2}
        for i in range(num_rows)
    ]


def make_hellaswag(num_rows):
    return [
        {
            "ind": i,
            "activity_label": "Baking",
            "ctx_a": f"A cook [substeps] breaks egg {i}.",
            "ctx_b": "he",
            "ctx": f"A cook breaks egg {i}. he",
            "endings": ["stirs it.", "sings [title] loudly.", "flies off.", "eats the bowl."],
            "source_id": f"activitynet~{i}",
            "split": "train",
            "split_type": "indomain",
            "label": str(i % 4),
        }
        for i in range(num_rows)
    ]


def make_truthful(num_rows):
    return [
        {
            "type": "Adversarial",
            "category": "Misconceptions",
            "question": f"What happens if you swallow seed {i}?",
            "best_answer": "It passes through you",
            "correct_answers": ["It passes through you", "Nothing happens"],
            "incorrect_answers": ["A tree grows inside you"],
            "source": "",
        }
        for i in range(num_rows)
    ]


def make_narrative(num_rows):
    """Three questions about each story, one after another; every second story has no marks of begin and end."""

    def make_row(i):
        story, question = divmod(i, 3)
        marks = ("CHAPTER ONE", "THE END") if story % 2 == 0 else ("", "")
        return {
            "document": {
                "id": f"story{story}",
                "kind": "gutenberg",
                "url": "",
                "file_size": 1,
                "word_count": 9,
                "start": marks[0],
                "end": marks[1],
                "summary": {"text": f"In short, ship {story} sinks.", "tokens": [], "url": "", "title": ""},
                "text": f"licence CHAPTER ONE Ship {story} sails and sinks. THE END licence again",
            },
            "question": {"text": f"What becomes of ship {story}, question {question}?", "tokens": []},
            "answers": [{"text": "It sinks", "tokens": []}, {"text": "The ship goes down", "tokens": []}],
        }

    return [make_row(i) for i in range(num_rows)]


STAND_INS = {
    ("aps/super_glue", "boolq"): (make_boolq, ("train", "validation")),
    ("Rowan/hellaswag", None): (make_hellaswag, ("train", "validation")),
    ("truthfulqa/truthful_qa", "generation"): (make_truthful, ("validation",)),
    ("deepmind/narrativeqa", None): (make_narrative, ("validation",)),
}
NUM_ROWS = 12


@pytest.fixture(autouse=True)
def stand_ins(monkeypatch, tmp_path):
    """Rows in place of the hub's; returns the arguments with which each data set was asked for."""
    asked = []

    def load_dataset(path, name=None, **arguments):
        asked.append((path, arguments))
        make_rows, splits = STAND_INS[path, name]
        return datasets.DatasetDict({split: datasets.Dataset.from_list(make_rows(NUM_ROWS)) for split in splits})

    monkeypatch.setattr("datasets.load_dataset", load_dataset)
    return asked


def encode(text):
    return [1, *(2 + ord(character) for character in text)]


def complete(task, answer):
    """Answer every prompt of a generating task with `answer(sample number)`."""
    return [
        Completion(
            request_id=request.request_id,
            sample_id=request.sample_id,
            kind="generate",
            num_prompt_tokens=1,
            text=answer(number),
        )
        for number, request in enumerate(task.requests(encode, max_model_len=8192, vocab_size=2000))
    ]


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


@pytest.mark.parametrize(
    ("answer", "is_right"), [(" B", 1.0), (" (B) sings.", 1.0), (" B. sings", 1.0), (" b", 0.0), (" Baking", 0.0)]
)
def test_a_hellaswag_answer_is_its_letter(answer, is_right):
    task = load_task(TaskSpec(name="hellaswag_generate"), seed=0)
    assert task.score(complete(task, lambda _: answer)).per_sample["hellaswag_generate/1"] == is_right
    assert task.chance == 0.25


def test_lettered_endings_are_cleaned_as_the_harness_cleans_them():
    prompt = load_task(TaskSpec(name="hellaswag_generate", num_fewshot=0), seed=0).samples()[0].text
    assert prompt == (
        "Baking: A cook breaks egg 0. He\nHow does it go on?\n"
        "A. stirs it.\nB. sings.  loudly.\nC. flies off.\nD. eats the bowl.\nAnswer:"
    ).replace("  ", " ")


def test_stories_take_turns_and_only_one_split_is_fetched(stand_ins):
    prompts = [sample.text for sample in load_task(TaskSpec(name="narrativeqa", limit=5), seed=0).samples()]
    questions = [prompt.rsplit("Question: ", 1)[1] for prompt in prompts]
    expected = [(0, 0), (1, 0), (2, 0), (3, 0), (0, 1)]
    assert questions == [f"What becomes of ship {story}, question {turn}?\nAnswer:" for story, turn in expected]
    ((path, arguments),) = stand_ins
    assert path == "deepmind/narrativeqa"
    assert list(arguments["data_files"]) == ["validation"]


def test_a_story_lies_between_its_marks_where_it_has_them():
    marked, unmarked = load_task(TaskSpec(name="narrativeqa", limit=2), seed=0).samples()
    assert marked.text.startswith("CHAPTER ONE Ship 0 sails and sinks. THE END\n\nQuestion:")
    assert unmarked.text.startswith("licence CHAPTER ONE")
    (summary,) = load_task(TaskSpec(name="narrativeqa_summary", limit=1), seed=0).samples()
    assert summary.text.startswith("In short, ship 0 sinks.\n\nQuestion: What becomes of ship 0")


def test_a_story_that_does_not_fit_loses_its_beginning_and_keeps_its_question():
    task = load_task(TaskSpec(name="narrativeqa", limit=4), seed=0)
    for request in task.requests(encode, max_model_len=100, vocab_size=2000):
        text = "".join(chr(token_id - 2) for token_id in request.prompt_token_ids)
        assert request.truncated
        assert len(request.prompt_token_ids) + request.max_output_tokens == 100
        assert text.endswith("?\nAnswer:")


def test_an_answer_about_a_story_counts_by_its_likeness_to_the_nearest_reference():
    task = load_task(TaskSpec(name="narrativeqa_summary", limit=3), seed=0)
    answers = [" The ship goes down.\nQuestion: what else", " It floats", ""]
    quality = task.score(complete(task, answers.__getitem__))
    # Of "it floats" against "it sinks" one word in two is common: precision and recall are 1/2.
    assert list(quality.per_sample.values()) == pytest.approx([1.0, 0.5, 0.0])
    assert quality.value == pytest.approx(0.5)
    assert quality.stderr == pytest.approx(0.5 / 3**0.5)


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
