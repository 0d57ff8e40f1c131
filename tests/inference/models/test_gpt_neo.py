"""GPT-Neo in vLLM against transformers' GPT-Neo: random weights, and lengths on both sides of the local window."""

import pytest

from runner.inference.vllm.compat import FrontEnd
from runner.inference.vllm.processes import CPU_ENVIRONMENT, ENVIRONMENT, EngineProcesses, default_environment
from tests.engines import ON_ENGINE
from tests.inference.tiny_model import prompt

# Two engines, the second with two workers, start within a minute. On a busy machine one took thirteen.
pytestmark = [*ON_ENGINE, pytest.mark.timeout(1800)]

WINDOW = 48
VOCAB_SIZE = 391
"""Neither a multiple of what vLLM pads a vocabulary to nor even: its halves differ."""
LENGTHS = (5, WINDOW - 1, WINDOW, WINDOW + 1, 2 * WINDOW + 7, 190)
MAX_MODEL_LEN = 256
NUM_OUTPUT_TOKENS = 24
"""From the shorter prompts on, generation crosses the window's length too."""
SINGLE_THREAD = {"OMP_NUM_THREADS": "1"}
"""Threads of two processes on the same cores would wait for each other longer than they compute."""


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A checkpoint as transformers writes it: global, local, local, global."""
    import torch
    from transformers import GPTNeoConfig, GPTNeoForCausalLM

    torch.manual_seed(0)
    config = GPTNeoConfig(
        vocab_size=VOCAB_SIZE,
        max_position_embeddings=MAX_MODEL_LEN,
        hidden_size=128,
        num_layers=4,
        attention_types=[[["global", "local"], 1], [["local", "global"], 1]],
        num_heads=4,
        window_size=WINDOW,
        initializer_range=0.12,  # larger than usual: attention must be far from uniform for its window to matter
        bos_token_id=0,
        eos_token_id=0,
    )
    folder = tmp_path_factory.mktemp("gpt-neo")
    GPTNeoForCausalLM(config).save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def prompts():
    return [[token % (VOCAB_SIZE - 1) + 1 for token in prompt(length, length)] for length in LENGTHS]


@pytest.fixture(scope="module", params=[1, 2], ids=["whole", "tensor-parallel"])
def outputs(request, folder, prompts):
    """vLLM's outputs. All prompts run together, in chunks that are shorter than most prompts."""
    from vllm import LLM, SamplingParams
    from vllm.inputs import tokens_input

    processes = EngineProcesses()
    with default_environment(ENVIRONMENT, CPU_ENVIRONMENT, SINGLE_THREAD):
        llm = LLM(
            model=str(folder),
            skip_tokenizer_init=True,
            dtype="float32",
            enforce_eager=True,
            tensor_parallel_size=request.param,
            max_model_len=MAX_MODEL_LEN,
            max_num_batched_tokens=64,
            enable_chunked_prefill=True,
            enable_prefix_caching=False,
            seed=0,
        )
    params = SamplingParams(
        temperature=0.0,
        max_tokens=NUM_OUTPUT_TOKENS,
        prompt_logprobs=0,
        logprobs=0,
        ignore_eos=True,
        detokenize=False,
    )
    processes.find()
    found = llm.generate([tokens_input(tokens) for tokens in prompts], params, use_tqdm=False)
    FrontEnd(llm.llm_engine).shut_down(60.0)
    processes.end(timeout_s=60)
    return found


@pytest.fixture(scope="module")
def reference(folder):
    """transformers' model: a function from token ids to log-probabilities [num_tokens, vocab_size]."""
    import torch
    from transformers import GPTNeoForCausalLM

    model = GPTNeoForCausalLM.from_pretrained(folder, attn_implementation="eager").eval()

    def logprobs(tokens):
        with torch.no_grad():
            return model(torch.tensor([tokens])).logits[0].float().log_softmax(-1)

    return logprobs


def test_log_probabilities_are_those_of_transformers(outputs, reference, prompts):
    for tokens, output in zip(prompts, outputs, strict=True):
        expected = reference(tokens)
        for position in range(1, len(tokens)):
            found = output.prompt_logprobs[position][tokens[position]].logprob
            assert found == pytest.approx(float(expected[position - 1, tokens[position]]), abs=1e-3), position


def test_greedy_tokens_are_those_of_transformers(outputs, reference, prompts):
    for tokens, output in zip(prompts, outputs, strict=True):
        generated = list(output.outputs[0].token_ids)
        expected = reference(tokens + generated)
        for step, token in enumerate(generated):
            row = expected[len(tokens) - 1 + step]
            assert token == int(row.argmax()), (len(tokens), step)
            assert output.outputs[0].logprobs[step][token].logprob == pytest.approx(float(row[token]), abs=1e-3)


def test_the_window_matters_in_this_model(folder, prompts):
    """With global layers alone, the answers differ by far more than the tolerance, so the test above can fail."""
    import torch
    from transformers import GPTNeoForCausalLM

    model = GPTNeoForCausalLM.from_pretrained(folder, attn_implementation="eager").eval()
    tokens = torch.tensor([prompts[-1]])
    with torch.no_grad():
        windowed = model(tokens).logits.log_softmax(-1)
        for block in model.transformer.h:
            mask = block.attn.attention.bias
            mask.copy_(torch.ones_like(mask).tril())
        everywhere = model(tokens).logits.log_softmax(-1)
    assert float((windowed - everywhere)[0, :WINDOW].abs().max()) < 1e-4
    assert float((windowed - everywhere)[0, 2 * WINDOW :].abs().max()) > 0.05


@pytest.fixture
def configure(folder):
    """Return vLLM's configuration for engine arguments, which every engine makes first."""

    def make(**engine_args):
        from vllm import EngineArgs

        arguments = {"model": str(folder), "skip_tokenizer_init": True, "dtype": "float32"}
        return EngineArgs(**arguments, **engine_args).create_engine_config()

    return make


def test_heads_that_cannot_be_shared_out_are_named(configure):
    with pytest.raises(ValueError, match=r"attention heads \(4\) must be divisible by tensor parallel size \(3\)"):
        configure(tensor_parallel_size=3)


def test_more_positions_than_were_learned_are_refused(configure, monkeypatch):
    from runner.inference.models.gpt_neo import GPTNeoModel

    with pytest.raises(ValueError, match=r"max_model_len \(257\) is greater than .* \(max_position_embeddings=256"):
        configure(max_model_len=MAX_MODEL_LEN + 1)
    monkeypatch.setenv("VLLM_ALLOW_LONG_MAX_MODEL_LEN", "1")
    config = configure(max_model_len=MAX_MODEL_LEN + 1)
    with pytest.raises(ValueError, match="max_model_len is 257, but this GPT-Neo has learned 256 positions"):
        GPTNeoModel(vllm_config=config)
