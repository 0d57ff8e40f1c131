"""Text to token ids, laid out as by lm-evaluation-harness's vLLM backend, so that scores can be compared."""

from collections.abc import Callable, Sequence

from runner.tasks.task import TaskError

Encode = Callable[[str], list[int]]


def encode_prompt(encode: Encode, text: str) -> list[int]:
    """Return the ids of a prompt. A text that starts with a begin-of-text token of its own gets no second one."""
    ids, prefix = encode(text), encode("")
    if len(prefix) == 1 and ids[:2] == prefix * 2:
        return ids[1:]
    return ids


def encode_pair(encode: Encode, context: str, continuation: str) -> tuple[list[int], list[int]]:
    """Return (context ids, continuation ids). The continuation's ids are those that follow the context's in the whole.

    Trailing spaces of the context go to the continuation, where tokenizers expect them.

    Raises: TaskError: the context is empty and the tokenizer has no begin-of-text token to condition on.
    """
    if not context:
        prefix = encode("")
        if not prefix:
            raise TaskError("a prompt is empty, and the model's tokenizer adds no begin-of-text token to start from")
        return prefix, encode(continuation)[len(prefix) :]
    stripped = context.rstrip()
    if stripped:
        continuation, context = context[len(stripped) :] + continuation, stripped
    context_ids = encode_prompt(encode, context)
    return context_ids, encode_prompt(encode, context + continuation)[len(context_ids) :]


def cut_left(ids: Sequence[int], num_tokens: int) -> tuple[tuple[int, ...], bool]:
    """Return the last `num_tokens` ids (>= 1) and whether any were cut."""
    return tuple(ids[-num_tokens:]), len(ids) > num_tokens
