"""The chat template of a model, for tasks whose prompts are chats."""

from runner.tasks.harness.task import RenderChat
from runner.tasks.task import TaskError


def load_chat_template(model: str, revision: str | None = None) -> RenderChat:
    """Return the function that renders messages as the text of a prompt, with the template of the model's tokenizer.

    Args:
        model: Hugging Face id, or a local folder.
        revision: of the tokenizer on Hugging Face; None for the default branch.

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
