"""Time of the analysis of input costs: features of 100,000 prompts, and correlations of a whole study."""

import time

import numpy as np


def describe_many() -> str:
    """Return the time for the features of 100,000 prompts of 200 words, without entities. The goal is a minute."""
    from runner.tasks.features.text import describe_samples
    from runner.tasks.task import Sample

    num_prompts, num_words = 100_000, 200
    rng = np.random.default_rng(0)
    # Words of English frequencies (Zipf's law) and about English lengths, a full stop after every sixteenth.
    ranks = np.arange(1, 30_001)
    letters = rng.integers(97, 123, (len(ranks), 8), dtype=np.uint8)
    vocabulary = np.array([bytes(row[: 2 + k % 7]).decode() for k, row in enumerate(letters)])
    edges = np.cumsum(1 / ranks) / np.sum(1 / ranks)
    samples = []
    for k in range(num_prompts):
        words = vocabulary[np.searchsorted(edges, rng.random(num_words))].tolist()
        words[15::16] = [f"{word}." for word in words[15::16]]
        samples.append(Sample(sample_id=str(k), text=" ".join(words)))
    start_s, start_cpu_s = time.perf_counter(), time.process_time()
    described = describe_samples("context", samples)
    took_s, took_cpu_s = time.perf_counter() - start_s, time.process_time() - start_cpu_s
    return (
        f"{described.height:,} prompts of {described['num_words'].mean():.0f} words in {took_s:.1f} s, "
        f"{took_cpu_s:.1f} s of processor time"
    )


def correlate_study() -> str:
    """Return the time for the correlations of 5 models x 4 tasks x 150 prompts at 3 clocks, with 1000 resamples."""
    import polars as pl

    from runner.analysis.inputs.correlation import correlate
    from runner.results.tables import REQUESTS, SAMPLES, TRIALS

    num_prompts = 150
    rng = np.random.default_rng(0)
    ids = [str(k) for k in range(num_prompts)]
    features = [name for name, kind in SAMPLES.items() if kind.is_numeric()]
    samples, requests, trials = [], [], []
    for task in ("a", "b", "c", "d"):
        lengths = rng.integers(50, 500, num_prompts)
        samples.append(
            {"task": task, "sample_id": ids} | {name: rng.normal(size=num_prompts) + lengths / 100 for name in features}
        )
        for model in ("v", "w", "x", "y", "z"):
            for clock in range(3):
                trial_id = f"{model}{task}{clock}"
                trials.append({"trial_id": trial_id, "model": model, "task": task, "status": "ok", "verdicts": []})
                requests.append(
                    {
                        "trial_id": trial_id,
                        "sample_id": ids,
                        "num_prompt_tokens": lengths,
                        "num_output_tokens": rng.integers(5, 100, num_prompts),
                        "energy_j": lengths / 50 + rng.normal(size=num_prompts),
                        "energy_method": "measured",
                        "queued_ns": 0,
                        "last_token_ns": lengths * 10**6 + rng.integers(0, 10**8, num_prompts),
                        "score": rng.random(num_prompts),
                    }
                )
    tables = [
        pl.concat([pl.DataFrame(schema=schema), *map(pl.DataFrame, rows)], how="diagonal_relaxed")
        for rows, schema in ((requests, REQUESTS), (samples, SAMPLES), ([trials], TRIALS))
    ]
    start_s, start_cpu_s = time.perf_counter(), time.process_time()
    found = correlate(*tables)
    return (
        f"{found.height:,} rows with 1000 resamples each in {time.perf_counter() - start_s:.1f} s, "
        f"{time.process_time() - start_cpu_s:.1f} s of processor time"
    )
