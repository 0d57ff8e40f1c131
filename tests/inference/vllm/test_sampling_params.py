"""`conversion.make_sampling_params`, with vLLM's own class: importing vLLM takes seconds."""

from runner.inference.engine import Sampling
from runner.inference.vllm.conversion import make_sampling_params
from tests.engines import ON_ENGINE
from tests.inference.requests import generate, score

pytestmark = ON_ENGINE


def test_greedy_generation_needs_no_seed():
    params = make_sampling_params(generate(0, stop=("\n",)), Sampling(seed=5), detokenize=True)
    assert (params.temperature, params.seed, params.max_tokens) == (0.0, None, 16)
    assert (params.stop, params.ignore_eos, params.detokenize) == (["\n"], True, True)


def test_sampling_is_seeded():
    sampling = Sampling(temperature=0.7, top_p=0.9, seed=5)
    params = make_sampling_params(generate(0), sampling, detokenize=False)
    assert (params.temperature, params.top_p, params.seed, params.detokenize) == (0.7, 0.9, 5, False)


def test_a_score_wants_the_prompts_own_log_probabilities():
    params = make_sampling_params(score(0, (3, 4, 5), 1), Sampling(temperature=0.7), detokenize=True)
    assert (params.temperature, params.max_tokens, params.prompt_logprobs) == (0.0, 1, 0)
    assert (params.flat_logprobs, params.detokenize) == (True, False)
