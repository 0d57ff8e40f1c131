"""The engine arguments of a vLLM, read from its source."""

import json
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest

from runner.inference.vllm import engine_arguments
from runner.inference.vllm.engine_arguments import EngineArguments, read_engine_arguments, read_from

ARG_UTILS = '''
from vllm.config import ModelConfig

@dataclass
class EngineArgs:
    """Arguments."""

    model: str = ModelConfig.model
    dtype: ModelDType = ModelConfig.dtype
    max_num_seqs: int | None = None
    max_model_len: int = 0
    watermark: float = 0.0
    enforce_eager: bool = ModelConfig.enforce_eager
    quantization: QuantizationMethods | str | None = None
    moe_backend: MoEBackend = "auto"
    max_lora_rank: MaxLoRARanks = 16
    jit: Literal["warn", "error"] = "warn"
    speculative_config: dict[str, Any] | None = None
    runner: RunnerOption = "auto"
    _private: int = 0

    def from_cli(self) -> None:
        pass
'''
LLM = """
class LLM:
    def __init__(
        self,
        model: str,
        *,
        dtype: str = "auto",
        gpu_memory_utilization: float = 0.92,
        chat_template: Path | None = None,
        **kwargs: Any,
    ) -> None:
        pass
"""
CONFIG = """
ModelDType = Literal["auto", "float16", "bfloat16"]
MoEBackend: TypeAlias = Literal[
    "auto",  # chosen by vLLM
    "flashinfer_trtllm",
]
MaxLoRARanks = Literal[8, 16]
RunnerType = Literal["generate", "pooling"]
RunnerOption = Literal["auto", RunnerType]
"""


def write_vllm(folder: Path, **changes: str) -> Path:
    sources = {"engine/arg_utils.py": ARG_UTILS, "entrypoints/llm.py": LLM, "config/model.py": CONFIG} | changes
    for name, text in sources.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text)
    return folder


@pytest.fixture
def known(tmp_path: Path) -> EngineArguments:
    found = read_from(write_vllm(tmp_path), "0.99.0")
    assert found is not None
    return found


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("dtype", "float16"),
        ("max_num_seqs", 8),
        ("watermark", 1),
        ("watermark", 0.5),
        ("enforce_eager", True),
        ("quantization", "of a plugin"),
        ("moe_backend", "FlashInfer-TRTLLM"),
        ("max_lora_rank", 8),
        ("jit", "error"),
        ("speculative_config", {"method": "ngram"}),
        ("runner", "anything: its names refer to others"),
        ("chat_template", "a parameter of LLM"),
        ("gpu_memory_utilization", 0.5),
    ],
)
def test_what_vllm_takes_is_no_problem(known: EngineArguments, name: str, value: object) -> None:
    assert known.find_problem(name, value) is None


@pytest.mark.parametrize(
    ("name", "value", "problem"),
    [
        ("max_num_seq", 8, 'is not an engine argument of vLLM 0.99.0; did you mean "max_num_seqs"?'),
        ("_private", 1, "is not an engine argument of vLLM 0.99.0"),
        ("from_cli", 1, "is not an engine argument of vLLM 0.99.0"),
        (
            "dtype",
            "float61",
            'is not allowed by vLLM 0.99.0: give auto or float16 or bfloat16; did you mean "float16"?',
        ),
        ("dtype", 16, "is not allowed by vLLM 0.99.0: give auto or float16 or bfloat16"),
        ("max_num_seqs", "8", "is not allowed by vLLM 0.99.0: give a whole number"),
        ("max_num_seqs", 8.0, "is not allowed by vLLM 0.99.0: give a whole number"),
        ("max_num_seqs", True, "is not allowed by vLLM 0.99.0: give a whole number"),
        ("max_model_len", [8], "is not allowed by vLLM 0.99.0: give a whole number"),
        ("enforce_eager", 1, "is not allowed by vLLM 0.99.0: give true or false"),
        ("max_lora_rank", 9, "is not allowed by vLLM 0.99.0: give 8 or 16"),
        ("model", "other/model", "is not an engine argument here: it is the `id` of [[model]]"),
    ],
)
def test_what_it_does_not_take_is_explained(known: EngineArguments, name: str, value: object, problem: str) -> None:
    assert known.find_problem(name, value) == problem


def test_the_methods_of_quantization_are_listed_apart(tmp_path: Path) -> None:
    methods = {"model_executor/layers/quantization/__init__.py": 'QuantizationMethods = Literal["awq", "fp8"]\n'}
    found = read_from(write_vllm(tmp_path, **methods), "1")
    assert found is not None
    assert found.quantizations == ("awq", "fp8")
    assert found.find_problem("quantization", "of a plugin") is None


def test_defaults_come_from_the_signature(known: EngineArguments) -> None:
    assert known.quantizations == ()
    assert known.defaults["gpu_memory_utilization"] == 0.92


@pytest.mark.parametrize(
    "changes",
    [
        {"engine/arg_utils.py": "class Other:\n    pass\n"},
        {"engine/arg_utils.py": "class EngineArgs(:\n"},
        {"entrypoints/llm.py": "class LLM:\n    pass\n"},
    ],
)
def test_a_source_that_is_not_as_it_is_known_tells_nothing(tmp_path: Path, changes: dict[str, str]) -> None:
    assert read_from(write_vllm(tmp_path, **changes), "1") is None
    assert read_from(tmp_path / "nothing", "1") is None


def test_without_vllm_nothing_is_known(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(engine_arguments, "find_spec", lambda _: None)
    read_engine_arguments.cache_clear()
    assert read_engine_arguments() is None
    read_engine_arguments.cache_clear()


needs_vllm = pytest.mark.skipif(find_spec("vllm") is None, reason="vLLM is not installed")


@needs_vllm
def test_the_installed_release_is_read_without_importing_it() -> None:
    program = (
        "import sys; from runner.inference.vllm.engine_arguments import read_engine_arguments as read; known = read(); "
        "assert known.find_problem('dtype', 'float61') and not known.find_problem('dtype', 'bfloat16'); "
        "assert known.find_problem('kv_cache_dtype', 'fp9') and not known.find_problem('kv_cache_dtype', 'fp8'); "
        "assert 'awq' in known.quantizations; "
        "assert isinstance(known.defaults['gpu_memory_utilization'], float); "
        "print([name for name in ('vllm', 'torch') if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=120, check=False)
    assert (done.stdout.strip(), done.stderr) == ("[]", "")


@needs_vllm
@pytest.mark.slow
def test_the_names_are_those_of_the_installed_class() -> None:
    program = "import json; from vllm import EngineArgs; print(json.dumps(list(EngineArgs.__dataclass_fields__)))"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=600, check=True)
    fields = {name for name in json.loads(done.stdout.splitlines()[-1]) if not name.startswith("_")}
    known = read_engine_arguments()
    assert known is not None
    assert fields <= set(known.types)
    assert set(known.types) - fields <= {"chat_template"}
