import pytest

from runner.spec.sweep import TaskSpec
from runner.tasks.loading import load_task
from tests.tasks.study.stand_ins import complete, encode


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
    # "it floats" and "it sinks" share one word of two: precision and recall are 1/2.
    assert list(quality.per_sample.values()) == pytest.approx([1.0, 0.5, 0.0])
    assert quality.value == pytest.approx(0.5)
    assert quality.stderr == pytest.approx(0.5 / 3**0.5)
