from pathlib import Path

import pytest
from transformers import AutoTokenizer

from runner.tasks.chat import load_chat_template
from runner.tasks.task import TaskError

SMALL_MODEL = Path(__file__).parents[2] / "models" / "joulesweep-small"
TEMPLATE = (
    "{% for message in messages %}<{{ message.role }}>{{ message.content }}{% endfor %}"
    "{% if add_generation_prompt %}<assistant>{% endif %}"
)


def test_a_model_without_a_chat_template_is_an_error():
    with pytest.raises(TaskError, match="no chat template"):
        load_chat_template(str(SMALL_MODEL))


def test_messages_become_the_text_of_a_prompt(tmp_path):
    tokenizer = AutoTokenizer.from_pretrained(SMALL_MODEL)
    tokenizer.chat_template = TEMPLATE
    tokenizer.save_pretrained(tmp_path)
    render = load_chat_template(str(tmp_path))
    question = [{"role": "user", "content": "Where is the lamp?"}]
    assert render(question, add_generation_prompt=True) == "<user>Where is the lamp?<assistant>"
    answered = [*question, {"role": "assistant", "content": "On the"}]
    assert render(answered, add_generation_prompt=False) == "<user>Where is the lamp?<assistant>On the"
