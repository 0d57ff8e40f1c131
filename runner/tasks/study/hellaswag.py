"""HellaSwag as generation: the prompt, which the templates of lm-evaluation-harness cannot build."""

from typing import Any

from lm_eval.tasks.hellaswag.utils import preprocess

LETTERS = "ABCD"


def ask_for_letter(document: dict[str, Any]) -> str:
    """Return a HellaSwag document as a question with lettered endings."""
    start = preprocess(f"{document['activity_label']}: {document['ctx_a']} {document['ctx_b'].capitalize()}")
    endings = (f"{letter}. {preprocess(ending)}" for letter, ending in zip(LETTERS, document["endings"], strict=True))
    return "\n".join((start, "How does it go on?", *endings, "Answer:"))
