"""A model's chat template, for tasks whose prompts shall wear it."""

from runner.tasks.harness.task import RenderChat
from runner.tasks.task import TaskError


def load_chat_template(model: str, revision: str | None = None) -> RenderChat:
    """Return what turns messages into the text of a prompt, as the model's tokenizer says.

    Args:
        model: Hugging Face id, or a local folder.

    Raises: TaskError: the model's tokenizer has no chat template.
    """
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(model, revision=revision)
    if not tokenizer.chat_template:
        raise TaskError(f"the tokenizer of {model} has no chat template: leave apply_chat_template out")

    def render(messages: list[dict[str, str]], *, add_generation_prompt: bool) -> str:
        return str(
            tokenizer.apply_chat_template(
                messages,
                tokenize=False,
                add_generation_prompt=add_generation_prompt,
                continue_final_message=not add_generation_prompt,
            )
        )

    return render
