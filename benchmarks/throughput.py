"""Output tokens/s of `VllmEngine` against `vllm bench throughput`, in interleaved pairs of fresh processes.

    python benchmarks/throughput.py --pairs 5 --out throughput.json

Both sides load the same shape with random weights. They get the same prompts (random token ids, one seed), lengths,
max_num_seqs, sampling (temperature 1) and log statistics, and neither detokenises. vLLM's side is the function behind
`vllm bench throughput`, which queues all prompts at once. Ours keeps exactly max_num_seqs in flight.
"""

import argparse
import json
import random
import statistics
import subprocess
import sys
import time
from pathlib import Path

VOCABULARY = 128_000
SHAPES = Path(__file__).resolve().parent.parent / "runner" / "physics" / "shapes"


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--side", choices=("ours", "vllm"), help="run one side in this process and print its JSON")
    parser.add_argument("--pairs", type=int, default=5)
    parser.add_argument("--shape", default="llama-3.2-1b")
    parser.add_argument("--num-requests", type=int, default=1024)
    parser.add_argument("--num-prompt-tokens", type=int, default=512)
    parser.add_argument("--num-output-tokens", type=int, default=128)
    parser.add_argument("--max-num-seqs", type=int, default=64)
    parser.add_argument("--out", type=Path)
    return parser.parse_args()


def make_prompts(arguments: argparse.Namespace) -> list[list[int]]:
    rng = random.Random(0)
    return [
        [rng.randrange(1000, VOCABULARY) for _ in range(arguments.num_prompt_tokens)]
        for _ in range(arguments.num_requests)
    ]


def run_ours(arguments: argparse.Namespace, prompts: list[list[int]]) -> float:
    from runner.inference.engine import Sampling
    from runner.inference.vllm.engine import VllmEngine
    from runner.spec.load import ClosedLoop
    from runner.spec.request import Request

    engine = VllmEngine(
        f"shapes/{arguments.shape}",
        engine_args={"max_num_seqs": arguments.max_num_seqs, "max_model_len": 4096},
    )
    requests = [
        Request(
            request_id=str(number),
            sample_id=str(number),
            kind="generate",
            prompt_token_ids=tuple(prompt),
            num_context_tokens=len(prompt),
            max_output_tokens=arguments.num_output_tokens,
            ignore_eos=True,
        )
        for number, prompt in enumerate(prompts)
    ]
    load, sampling = ClosedLoop(concurrency=arguments.max_num_seqs), Sampling(temperature=1.0)
    engine.run(iter(requests[: arguments.max_num_seqs]), load, sampling)
    run = engine.run(iter(requests), load, sampling)
    assert all(completion.num_output_tokens == arguments.num_output_tokens for completion in run.completions)
    engine.close()
    return (run.end_ns - run.start_ns) * 1e-9


def run_vllm_bench(arguments: argparse.Namespace, prompts: list[list[int]]) -> float:
    from vllm import EngineArgs
    from vllm.benchmarks.datasets import SampleRequest
    from vllm.benchmarks.throughput import run_vllm

    requests = [
        SampleRequest(
            prompt={"prompt_token_ids": prompt},
            prompt_len=len(prompt),
            expected_output_len=arguments.num_output_tokens,
        )
        for prompt in prompts
    ]
    engine_args = EngineArgs(
        model=str(SHAPES / arguments.shape),
        load_format="dummy",
        skip_tokenizer_init=True,
        max_num_seqs=arguments.max_num_seqs,
        max_model_len=4096,
        enable_prefix_caching=False,
        disable_log_stats=False,
    )
    elapsed_s, _ = run_vllm(
        requests,
        1,
        engine_args,
        do_profile=False,
        disable_detokenize=True,
        warmup_requests=requests[: arguments.max_num_seqs],
    )
    return elapsed_s


def run_side(arguments: argparse.Namespace) -> None:
    prompts = make_prompts(arguments)
    elapsed_s = (run_ours if arguments.side == "ours" else run_vllm_bench)(arguments, prompts)
    num_tokens = arguments.num_requests * arguments.num_output_tokens
    print("RESULT " + json.dumps({"elapsed_s": elapsed_s, "output_tokens_per_s": num_tokens / elapsed_s}), flush=True)


def run_pairs(arguments: argparse.Namespace) -> None:
    rows = []
    for pair in range(arguments.pairs):
        row: dict[str, float] = {"pair": pair}
        for side in ("ours", "vllm") if pair % 2 else ("vllm", "ours"):
            started_s = time.monotonic()
            command = [sys.executable, __file__, "--side", side, *sys.argv[1:]]
            output = subprocess.run(command, capture_output=True, text=True, check=False)
            result = next((line for line in output.stdout.splitlines() if line.startswith("RESULT ")), None)
            if result is None:
                raise SystemExit(f"{side} failed:\n{output.stdout[-3000:]}\n{output.stderr[-3000:]}")
            row[side] = json.loads(result.removeprefix("RESULT "))["output_tokens_per_s"]
            print(f"pair {pair} {side}: {row[side]:,.0f} tokens/s ({time.monotonic() - started_s:.0f} s)", flush=True)
        row["ratio"] = row["ours"] / row["vllm"]
        rows.append(row)
        summary = {"rows": rows, "median_ratio": statistics.median(row["ratio"] for row in rows)}
        if arguments.out:
            arguments.out.write_text(json.dumps(summary, indent=1))
    print(f"median ratio {summary['median_ratio']:.3f}")


if __name__ == "__main__":
    parsed = parse_arguments()
    run_side(parsed) if parsed.side else run_pairs(parsed)
