"""Attaching to a server: what is checked before a run directory is touched.

An address and a sweep enter. The server's facts and the GPU group of its GPU leave, or one error that says what to do.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from runner.execution.gpu_group import GpuGroup
from runner.execution.preflight.model_access import ModelAccessError, explain
from runner.execution.preflight.server_gpus import find_server_group
from runner.inference.server.address import ServerAddress, is_on_this_host, parse_address
from runner.inference.server.facts import Abilities, AttachedServer, ServerFacts
from runner.inference.server.look import find_model, look_at_server, try_out
from runner.inference.server.tokenizer import choose_source
from runner.spec.problems import did_you_mean
from runner.spec.sweep import SweepFileError, SweepSpec, TaskSpec
from runner.tasks.loading import describe_task


@dataclass(frozen=True, kw_only=True, slots=True)
class Attachment:
    """A server that a run may attach to, and its GPU."""

    server: AttachedServer
    groups: tuple[GpuGroup, ...]
    """One group: a run measures one server, with one worker."""
    warnings: tuple[str, ...]


def attach(
    sweep: SweepSpec,
    url: str,
    *,
    gpu: str,
    server_gpus: str | None,
    engine: str = "vllm",
    cluster: str | None = None,
    path: Path | None = None,
) -> Attachment:
    """Look at a server and check that the sweep can be measured on it.

    Args:
        url: as `sweep run --server` takes it.
        gpu: "auto", or a simulated GPU where the server computes on none.
        server_gpus: the GPUs that the server computes on, by index or UUID; None finds them by NVML.
        engine: as `sweep run --engine` takes it.
        cluster: the Ray cluster that the run would join.
        path: the sweep file, named in messages.
    Raises: ValueError: the address or another option is wrong. SweepFileError: the server lacks a model or an ability
        that the sweep needs. ServerError: no server answers, or not as one should. ModelAccessError: a tokenizer
        cannot be had. GpuError: the server's GPU cannot be found or used.
    """
    if engine != "vllm":
        raise ValueError(f"--engine {engine} computes without a server: leave --engine or --server out")
    if cluster is not None:
        raise ValueError(f"--server measures a server of this host, and the cluster {cluster} has others: run it alone")
    address = parse_address(url)
    _require_here(address, server_gpus)
    facts = look_at_server(address)
    _require_models(sweep, facts, path)
    needs_scores = any(_needs_scores(task) for task in sweep.task)
    _require_abilities(sweep, facts, path, needs_scores=needs_scores)
    _require_tokenizers(sweep, facts)
    group, gpus_named = find_server_group(address, gpu=gpu, server_gpus=server_gpus)
    return Attachment(
        server=AttachedServer(facts=facts, needs_scores=needs_scores, gpus_named=gpus_named),
        groups=(group,),
        warnings=tuple(_find_unused_arguments(sweep)),
    )


def _require_here(address: ServerAddress, server_gpus: str | None) -> None:
    """Refuse a server on another host. Its GPUs could neither be read nor set from here."""
    if server_gpus is None and not is_on_this_host(address.host):
        raise ValueError(
            f"--server {address.url} is no address of this host, so its GPUs cannot be read from here: run sweep on "
            "its host. Where the address leads to a container on this host, name its GPUs with --server-gpus"
        )


def _require_models(sweep: SweepSpec, facts: ServerFacts, path: Path | None) -> None:
    names = [name for model in facts.models for name in dict.fromkeys((model.id, model.root)) if name]
    problems = [
        f'model[{index}].id = "{model.id}" is not served: {facts.address.url} has '
        f"{', '.join(served.id for served in facts.models)}{did_you_mean(model.id, names)}"
        for index, model in enumerate(sweep.model)
        if find_model(facts, model.id) is None
    ]
    if problems:
        raise SweepFileError(path, problems)


def _require_abilities(sweep: SweepSpec, facts: ServerFacts, path: Path | None, *, needs_scores: bool) -> None:
    problems: list[str] = []
    for index, model in enumerate(sweep.model):
        served = find_model(facts, model.id)
        assert served is not None
        abilities = try_out(facts, served, scores=needs_scores)
        problems += _find_lacking(sweep, facts, abilities, f'model[{index}].id = "{model.id}"')
    if problems:
        raise SweepFileError(path, list(dict.fromkeys(problems)))


def _find_lacking(sweep: SweepSpec, facts: ServerFacts, abilities: Abilities, model: str) -> Iterator[str]:
    server = f"the server at {facts.address.url} ({facts.software})"
    for index, task in enumerate(sweep.task):
        name = f'task[{index}].name = "{task.name}"'
        if _needs_scores(task) and not abilities.scores_prompts:
            yield (
                f"{name} needs the log-probabilities of prompts, which {server} does not give for {model} (`echo` with "
                "`logprobs`): leave the task out, or serve the model with vLLM"
            )
        elif sweep.fixed_output_tokens(task) is not None and not abilities.takes_ignore_eos:
            yield (
                f"{name} generates a fixed number of tokens, and {server} refuses `ignore_eos`: take a task whose "
                "answers end by themselves, without fixed_output_length"
            )


def _needs_scores(task: TaskSpec) -> bool:
    return task.measure_surprise or describe_task(task.name).request_kind == "loglikelihood"


def _require_tokenizers(sweep: SweepSpec, facts: ServerFacts) -> None:
    """Refuse models whose small files can be had neither here nor from the hub. They make the prompts."""
    from huggingface_hub import hf_hub_download

    for model in sweep.model:
        source = choose_source(model.id, find_model(facts, model.id))
        if Path(source).is_dir():
            continue
        try:
            hf_hub_download(source, "config.json", revision=model.revision)
        except Exception as error:  # errors of the hub, and of the network
            problem, message = explain(source, model.revision, error)
            needed = f"{message}. The sweep makes its prompts with the model's tokenizer"
            raise (ValueError if problem == "wrong" else ModelAccessError)(needed) from error


def _find_unused_arguments(sweep: SweepSpec) -> Iterator[str]:
    """Yield a warning for each model whose engine arguments have no effect on a server that runs already."""
    for index, model in enumerate(sweep.model):
        unused: Sequence[str] = [name for name in model.engine if name != "max_model_len"]
        if unused:
            yield (
                f"model[{index}].engine: {', '.join(unused)} have no effect with --server: the server has been "
                "started with arguments of its own"
            )
