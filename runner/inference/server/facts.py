"""What is known of a server: what it says of itself, and what a trial request has shown."""

from dataclasses import dataclass

from runner.inference.server.address import ServerAddress

UNKNOWN = "unknown software"
"""The software of a server that does not name it."""


@dataclass(frozen=True, kw_only=True, slots=True)
class ServedModel:
    """One model of GET /v1/models."""

    id: str
    """The name that requests give."""
    root: str | None
    """The path or hub id that it was loaded from; None where the server does not tell."""
    max_model_len: int | None
    """Longest prompt and output together, in tokens; None where the server does not tell."""


@dataclass(frozen=True, kw_only=True, slots=True)
class ServerFacts:
    """What a server says of itself. It holds until the server restarts."""

    address: ServerAddress
    owner: str
    """What /v1/models says in `owned_by`: vllm, sglang, llamacpp, tensorrt_llm, or anything else."""
    version: str | None
    """None where the server does not tell."""
    models: tuple[ServedModel, ...]
    keeps_prefixes: bool | None
    """Whether it may answer from a prefix cache; None where the server does not tell."""

    @property
    def software(self) -> str:
        """Name and version, such as "vllm 0.32.0". Rows of two of them never share a run directory."""
        names = {"vllm": "vllm", "sglang": "sglang", "llamacpp": "llama.cpp", "tensorrt_llm": "tensorrt-llm"}
        return f"{names.get(self.owner, UNKNOWN)} {self.version or ''}".strip()


@dataclass(frozen=True, kw_only=True, slots=True)
class AttachedServer:
    """The server that a run attaches to."""

    facts: ServerFacts
    needs_scores: bool
    """Whether the sweep asks for log-likelihoods."""
    gpus_named: bool
    """Whether the user named the server's GPUs. If not, NVML shows the server's processes on them."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Abilities:
    """What a server did with requests that tried it out."""

    takes_token_ids: bool
    """Whether a prompt may be token ids. If not, the prompt is their text."""
    takes_ignore_eos: bool
    """Whether it accepts `ignore_eos`. Only its answers show whether it keeps it."""
    scores_prompts: bool | None
    """Whether `echo` with `logprobs` gives the prompt's log-probabilities; None: it was not asked."""
