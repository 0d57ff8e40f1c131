"""What this program uses of vLLM beyond its documented interface; every name here is used in `runner.inference`.

    python -m tests.interfaces.vllm_interfaces ROOT > tests/interfaces/vllm_0_32.json

writes the snapshot of a release: ROOT is the folder `vllm` of an unpacked wheel, or of an installed package.
"""

import json
import sys
from pathlib import Path

from tests.interfaces.collect import make_snapshot
from tests.interfaces.interface import Interface, Text
from tests.interfaces.vllm_model_interfaces import VLLM_MODEL

_CORE_CLIENT = "vllm.v1.engine.core_client"
_LLM_ENGINE = "vllm.v1.engine.llm_engine"
_STATS = "vllm.v1.metrics.stats"
_SCHEDULED = "vllm.v1.core.sched.output"

ENGINE_ARGS = (
    "model",
    "revision",
    "tokenizer_revision",
    "seed",
    "enable_prefix_caching",
    "enforce_eager",
    "disable_log_stats",
    "enable_logging_iteration_details",
    "use_tqdm_on_load",
    "load_format",
    "skip_tokenizer_init",
)
PACED_ENGINE_ARGS = ("worker_cls", "scheduler_cls", "additional_config", "async_scheduling")

VLLM_CONFIG = (
    Interface(
        "vllm.config",
        "VllmConfig",
        attributes=("model_config", "parallel_config", "cache_config", "quant_config", "additional_config"),
    ),
    Interface(
        "vllm.config", "ModelConfig", attributes=("max_model_len", "hf_config", "hf_text_config", "dtype", "model")
    ),
    Interface("vllm.config", "ModelConfig.get_vocab_size", use="call"),
    Interface("vllm.config", "ParallelConfig", attributes=("world_size",)),
    Interface("vllm.config", "CacheConfig"),
)
"""What is read of the configuration that vLLM makes. Each part below reads some of it."""

VLLM_ENGINE = (
    # Opening
    Interface("vllm", "LLM", ("model", *ENGINE_ARGS[1:], *PACED_ENGINE_ARGS), ("llm_engine",), use="call"),
    Interface("vllm", "EngineArgs", ENGINE_ARGS + PACED_ENGINE_ARGS),
    Interface("vllm.platforms", "current_platform"),
    Interface("vllm.platforms.interface", "Platform.is_cpu", use="call"),
    Interface(
        "vllm.envs",
        "environment_variables",
        attributes=(
            "VLLM_WORKER_MULTIPROC_METHOD",
            "VLLM_LOGGING_LEVEL",
            "VLLM_NO_USAGE_STATS",
            "VLLM_CPU_KVCACHE_SPACE",
            "VLLM_CPU_OMP_THREADS_BIND",
            "VLLM_ENABLE_V1_MULTIPROCESSING",
        ),
    ),
    Interface("vllm.tokenizers", "TokenizerLike.encode", ("text",), positional=1, use="call"),
    # Requests
    Interface("vllm.inputs", "tokens_input", ("prompt_token_ids",), positional=1, use="call"),
    Interface(
        "vllm",
        "SamplingParams",
        (
            "temperature",
            "top_p",
            "seed",
            "max_tokens",
            "stop",
            "ignore_eos",
            "detokenize",
            "output_kind",
            "prompt_logprobs",
            "flat_logprobs",
        ),
        ("prompt_logprobs",),
        use="call",
    ),
    Interface("vllm.sampling_params", "RequestOutputKind", attributes=("FINAL_ONLY",)),
    Interface(
        "vllm.outputs",
        "RequestOutput",
        attributes=("request_id", "finished", "outputs", "metrics", "num_cached_tokens", "prompt_logprobs"),
    ),
    Interface("vllm.outputs", "CompletionOutput", attributes=("finish_reason", "token_ids", "text")),
    Interface("vllm.logprobs", "FlatLogprobs", attributes=("logprobs", "ranks")),
    Interface(_STATS, "RequestStateStats", attributes=("scheduled_ts", "first_token_ts", "last_token_ts")),
    # The engine in this process
    Interface(_LLM_ENGINE, "LLMEngine", attributes=("engine_core", "logger_manager", "model_config", "tokenizer")),
    Interface(_LLM_ENGINE, "LLMEngine.add_request", ("request_id", "prompt", "params"), positional=3, use="call"),
    Interface(_LLM_ENGINE, "LLMEngine.abort_request", ("request_ids",), positional=1, use="call"),
    Interface(_LLM_ENGINE, "LLMEngine.step", use="call"),
    Interface(_LLM_ENGINE, "LLMEngine.is_sleeping", use="call"),
    Interface(_LLM_ENGINE, "LLMEngine.reset_prefix_cache", use="call"),
    Interface(_LLM_ENGINE, "LLMEngine.collective_rpc", ("method",), positional=1, use="call"),
    # Its line to the core
    Interface(_CORE_CLIENT, "SyncMPClient", attributes=("outputs_queue", "utility_results")),
    Interface(_CORE_CLIENT, "SyncMPClient.get_output", use="override"),
    Interface(_CORE_CLIENT, "SyncMPClient.abort_requests", ("request_ids",), positional=1, use="call"),
    Interface(_CORE_CLIENT, "SyncMPClient.shutdown", ("timeout",), use="call"),
    Interface("vllm.v1.engine.exceptions", "EngineDeadError", use="call"),
    # What the core says of a step
    Interface("vllm.v1.engine", "EngineCoreOutputs", attributes=("outputs", "scheduler_stats", "timestamp")),
    Interface(_STATS, "SchedulerStats", attributes=("iteration_details",)),
    Interface(
        _STATS,
        "SchedulerIterationDetails",
        attributes=(
            "num_ctx_tokens",
            "num_generation_tokens",
            "num_ctx_requests",
            "num_generation_requests",
            "is_dummy",
        ),
    ),
)
"""What `VllmEngine` and its helpers use, in this process."""

VLLM_PACED = (
    Interface("vllm.v1.worker.cpu_worker", "CPUWorker", ("vllm_config",), positional=1),
    Interface("vllm.v1.worker.cpu_worker", "CPUWorker.execute_model", ("scheduler_output",), use="override"),
    Interface("vllm.v1.worker.cpu_worker", "CPUWorker.sample_tokens", ("grammar_output",), use="override"),
    Interface("vllm.v1.core.sched.scheduler", "Scheduler"),
    Interface(
        "vllm.v1.core.sched.scheduler", "Scheduler.finish_requests", ("request_ids", "finished_status"), use="override"
    ),
    Interface("vllm.v1.core.sched.scheduler", "Scheduler.set_pause_state", ("pause_state",), positional=1, use="call"),
    Interface("vllm.v1.core.sched.interface", "PauseState", attributes=("PAUSED_ALL", "UNPAUSED")),
    Interface(
        _SCHEDULED,
        "SchedulerOutput",
        attributes=(
            "finished_req_ids",
            "scheduled_new_reqs",
            "scheduled_cached_reqs",
            "num_scheduled_tokens",
            "total_num_scheduled_tokens",
        ),
    ),
    Interface(
        _SCHEDULED,
        "NewRequestData",
        attributes=("req_id", "prompt_token_ids", "num_computed_tokens", "sampling_params"),
    ),
    Interface(_SCHEDULED, "CachedRequestData", attributes=("req_ids", "num_computed_tokens")),
)
"""What the paced worker, scheduler and work counter use, inside the core's process."""

VLLM = VLLM_CONFIG + VLLM_ENGINE + VLLM_PACED + VLLM_MODEL

VLLM_TEXTS = (
    Text("envs.py", ('"DO_NOT_TRACK"',)),
    Text("plugins/__init__.py", ('"vllm.general_plugins"',)),
    # The step asks the core through the attribute that we replace. Without a logger manager it logs nothing.
    # The variable decides whether the core gets a process of its own.
    Text(
        "v1/engine/llm_engine.py",
        (
            "= self.engine_core.get_output()",
            "if self.logger_manager is not None",
            "if envs.VLLM_ENABLE_V1_MULTIPROCESSING:",
        ),
    ),
    # This client talks to a core in a process of its own.
    # An exception in the queue is raised in the thread that waits there, one in a future where an answer is awaited.
    Text(
        "v1/engine/core_client.py",
        (
            "return SyncMPClient(",
            "outputs = self.outputs_queue.get()",
            "if isinstance(outputs, Exception):",
            "self.utility_results[call_id] = future",
            "return future.result()",
        ),
    ),
    # The core is a child of this process, by multiprocessing. Aborts keep their place among the requests handed in.
    Text("v1/engine/utils.py", ("context.Process(", '"EngineCore"')),
    Text(
        "v1/engine/core.py",
        (
            "self.scheduler.finish_requests(request_ids, RequestStatus.FINISHED_ABORTED)",
            "self.input_queue.put_nowait((request_type, request))",
        ),
    ),
    Text("v1/core/sched/scheduler.py", ("if self._pause_state == PauseState.PAUSED_ALL:",)),
    Text("v1/worker/worker_base.py", ("parallel_config.worker_cls",)),
    Text("model_executor/model_loader/default_loader.py", ("model.load_weights(",)),
    Text("model_executor/model_loader/utils.py", ('"packed_modules_mapping"',)),
)


def main() -> None:
    """Print the snapshot of a release."""
    print(json.dumps(make_snapshot(Path(sys.argv[1]), VLLM, VLLM_TEXTS), indent=1))


if __name__ == "__main__":
    main()
