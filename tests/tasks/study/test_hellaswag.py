import pytest

from runner.spec.sweep import TaskSpec
from runner.tasks.loading import load_task
from tests.tasks.study.stand_ins import complete


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
