"""A task of lm-evaluation-harness as a `Task`: its prompts become requests, and its scoring gets the completions.

Prompts, few-shot examples, filters, metrics and standard errors are the harness's. Tokens are laid out as by its vLLM
backend. The sweep's `sampling` decides how tokens are drawn, not the task's YAML.
"""

import contextlib
import io
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any, Protocol

from runner.spec.request import Completion, Request, RequestKind
from runner.tasks.encoding import Encode, cut_left, encode_pair, encode_prompt
from runner.tasks.harness.loading import seeded
from runner.tasks.harness.scoring import choose_metric, no_quality, score_instances
from runner.tasks.task import Quality, Sample, TaskError

_DEFAULT_MAX_OUTPUT_TOKENS = 256
"""The harness's own default, for tasks that set no limit."""
_MAX_OUTPUT_TOKENS_KEYS = ("max_gen_toks", "max_new_tokens", "max_tokens", "max_completion_tokens")


class RenderChat(Protocol):
    """A model's chat template. It renders messages (role, content) as the text of a prompt."""

    def __call__(self, messages: list[dict[str, str]], *, add_generation_prompt: bool) -> str:
        """Return the text of the prompt, up to the beginning of the assistant's turn if that is asked for."""
        ...


class HarnessTask:
    """One task of the harness.

    Args:
        name: the name in the sweep file, with which all ids begin.
        harness_task: lm_eval.api.task.Task, from `load_own_task` or `load_harness_task`.
        seed: of the choice of few-shot examples.
        limit: number of documents, from the first on; None for all.
        num_fewshot: number of examples before each question; None for the task's own.
        quality_metric: "NAME" or "NAME,FILTER" of the task's metrics; None for its first.
        max_output_tokens: replaces the task's own limit.
        fixed_output_length: generate exactly that many tokens. Answers are cut at the task's stops before scoring.
        render_chat: the model's chat template for the prompts; None leaves them as they are.

    Raises: TaskError: the task is of a kind that is not supported, or an argument does not fit it.
    """

    def __init__(
        self,
        name: str,
        harness_task: Any,
        *,
        seed: int = 0,
        limit: int | None = None,
        num_fewshot: int | None = None,
        quality_metric: str | None = None,
        max_output_tokens: int | None = None,
        fixed_output_length: bool = False,
        render_chat: RenderChat | None = None,
    ) -> None:
        _check_supported(name, harness_task)
        self.name = name
        self._harness_task = harness_task
        self._fixed_output_length = fixed_output_length
        self._max_output_tokens = max_output_tokens
        self.metric = choose_metric(harness_task, quality_metric)
        _set_fewshot(name, harness_task, num_fewshot, seed)
        self._instances = _build_instances(name, harness_task, limit, seed, render_chat)

    @property
    def request_kind(self) -> RequestKind:
        """Whether its requests generate, or only score a continuation."""
        return "generate" if self._instances[0].request_type == "generate_until" else "loglikelihood"

    @property
    def chance(self) -> float | None:
        """The score of a guess: from the YAML of our own tasks; for an accuracy, one over the number of choices."""
        stated = (self._harness_task.config.metadata or {}).get("chance")
        if stated is not None:
            return float(stated)
        if self._harness_task.OUTPUT_TYPE != "multiple_choice" or self.metric.name not in ("acc", "acc_norm"):
            return None
        documents = {instance.doc_id: instance.doc for instance in self._instances}.values()
        return sum(1 / len(self._harness_task.doc_to_choice(document)) for document in documents) / len(documents)

    def samples(self) -> list[Sample]:
        """Return the documents with their prompts. If each choice has a prompt of its own, it is the first choice's."""
        prompts: dict[int, str] = {}
        for instance in self._instances:
            prompts.setdefault(instance.doc_id, instance.args[0])
        return [Sample(sample_id=self._sample_id(doc_id), text=prompt) for doc_id, prompt in prompts.items()]

    def requests(
        self, encode: Callable[[str], list[int]] | None, *, max_model_len: int, vocab_size: int
    ) -> list[Request]:
        """Return one round of requests, in the documents' order; see `Task.requests`."""
        if encode is None:
            raise TaskError(
                f"task {self.name!r} has texts, and this model has no tokenizer: give it the task `synthetic` instead"
            )
        make = self._make_generate if self.request_kind == "generate" else self._make_loglikelihood
        return [
            make(instance, request_id, encode, max_model_len)
            for instance in self._instances
            for request_id in self._request_ids(instance)
        ]

    def score(self, completions: Sequence[Completion]) -> Quality:
        """Return the score of one round. `reason` counts the documents left out for a failed or missing request."""
        answers = {
            completion.request_id: answer
            for completion in completions
            if (answer := self._read_answer(completion)) is not None
        }
        lost = {
            instance.doc_id
            for instance in self._instances
            if any(request_id not in answers for request_id in self._request_ids(instance))
        }
        kept = [instance for instance in self._instances if instance.doc_id not in lost]
        if not kept:
            return no_quality(self.metric, "no document has all its answers")
        responses = [[answers[request_id] for request_id in self._request_ids(instance)] for instance in kept]
        quality = score_instances(self._harness_task, self.metric, kept, responses)
        num_documents = len({instance.doc_id for instance in self._instances})
        left_out = f"{len(lost)} of {num_documents} documents failed and are left out" if lost else None
        return replace(
            quality,
            reason=quality.reason or left_out,
            per_sample={self._sample_id(doc_id): score for doc_id, score in quality.per_sample.items()},
        )

    def _make_generate(self, instance: Any, request_id: str, encode: Encode, max_model_len: int) -> Request:
        prompt, generation = instance.args[:2]
        num_output = self._max_output_tokens or _max_output_tokens(generation)
        if num_output >= max_model_len:
            raise TaskError(
                f"task {self.name!r} generates up to {num_output} tokens, and the model holds {max_model_len} with the "
                "prompt: set max_output_tokens lower"
            )
        ids, truncated = cut_left(encode_prompt(encode, prompt), max_model_len - num_output)
        return Request(
            request_id=request_id,
            sample_id=self._sample_id(instance.doc_id),
            kind="generate",
            prompt_token_ids=ids,
            num_context_tokens=len(ids),
            max_output_tokens=num_output,
            stop=() if self._fixed_output_length else _stops(generation),
            ignore_eos=self._fixed_output_length,
            truncated=truncated,
        )

    def _make_loglikelihood(self, instance: Any, request_id: str, encode: Encode, max_model_len: int) -> Request:
        context_ids, continuation_ids = encode_pair(encode, *instance.args[:2])
        # vLLM generates one token even if only the prompt is scored.
        ids, truncated = cut_left([*context_ids, *continuation_ids], max_model_len - 1)
        num_context = len(ids) - len(continuation_ids)
        if num_context < 1:
            raise TaskError(
                f"task {self.name!r}: a continuation of {len(continuation_ids)} tokens leaves no room for a context in "
                f"the model's {max_model_len}"
            )
        return Request(
            request_id=request_id,
            sample_id=self._sample_id(instance.doc_id),
            kind="loglikelihood",
            prompt_token_ids=ids,
            num_context_tokens=num_context,
            max_output_tokens=0,
            truncated=truncated,
        )

    def _read_answer(self, completion: Completion) -> str | tuple[float, bool] | None:
        if completion.error is not None:
            return None
        if completion.kind == "loglikelihood":
            if completion.loglikelihood is None:
                return None
            return completion.loglikelihood, bool(completion.is_greedy)
        text = completion.text
        if text is not None:
            for stop in self._stops_of_task:
                text = text.split(stop)[0]
        return text

    @property
    def _stops_of_task(self) -> tuple[str, ...]:
        return _stops(self._instances[0].args[1]) if self.request_kind == "generate" else ()

    def _request_ids(self, instance: Any) -> list[str]:
        request_id = f"{self._sample_id(instance.doc_id)}/{instance.idx}"
        repeats = instance.repeats or 1
        return [request_id] if repeats == 1 else [f"{request_id}/{i}" for i in range(repeats)]

    def _sample_id(self, doc_id: int | str) -> str:
        return f"{self.name}/{doc_id}"


def _check_supported(name: str, task: Any) -> None:
    if task.OUTPUT_TYPE == "loglikelihood_rolling":
        raise TaskError(f"{name!r} scores whole documents (loglikelihood_rolling), which is not supported")
    if getattr(task, "MULTIMODAL", False):
        raise TaskError(f"{name!r} needs images or sound, which is not supported: name a task of text only")
    if getattr(task, "UNSAFE_CODE", False):
        raise TaskError(f"{name!r} runs code that the model has written, which is not supported")


def _set_fewshot(name: str, task: Any, num_fewshot: int | None, seed: int) -> None:
    fixed = task.get_config("num_fewshot")
    if num_fewshot and fixed == 0:
        raise TaskError(f"task {name!r} takes no few-shot examples: leave num_fewshot out")
    if num_fewshot is not None or fixed is None:
        task.set_config("num_fewshot", num_fewshot or 0)
    task.set_fewshot_seed(seed)


def _build_instances(name: str, task: Any, limit: int | None, seed: int, render_chat: RenderChat | None) -> list[Any]:
    # The harness draws a progress bar on stderr, which would disturb the dashboard.
    try:
        with seeded(seed), contextlib.redirect_stderr(io.StringIO()):
            task.build_all_requests(
                limit=limit,
                apply_chat_template=render_chat is not None,
                fewshot_as_multiturn=render_chat is not None,
                chat_template=render_chat,
            )
    except ValueError as error:  # more examples than there are
        num_fewshot = task.get_config("num_fewshot")
        raise TaskError(f"task {name!r} has no prompts with num_fewshot = {num_fewshot}: {error}") from error
    instances: list[Any] = task.instances
    kinds = {instance.request_type for instance in instances}
    if not kinds <= {"generate_until"} and not kinds <= {"loglikelihood"}:
        raise TaskError(f"{name!r} mixes kinds of requests ({', '.join(sorted(kinds))}), which is not supported")
    return instances


def _max_output_tokens(generation: dict[str, Any]) -> int:
    return int(
        next((generation[key] for key in _MAX_OUTPUT_TOKENS_KEYS if generation.get(key)), _DEFAULT_MAX_OUTPUT_TOKENS)
    )


def _stops(generation: dict[str, Any]) -> tuple[str, ...]:
    until = generation.get("until") or []
    return tuple(stop for stop in ([until] if isinstance(until, str) else until) if stop)
