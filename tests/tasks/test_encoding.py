"""Checks token ids against the harness's own vLLM backend, whose base class encodes."""

from pathlib import Path

import pytest
from lm_eval.api.model import TemplateLM
from transformers import AutoTokenizer

from runner.tasks.encoding import cut_left, encode_pair, encode_prompt
from runner.tasks.task import TaskError

MODEL = Path(__file__).parents[2] / "models" / "joulesweep-small"


@pytest.fixture(scope="module")
def tokenizer():
    return AutoTokenizer.from_pretrained(MODEL)


@pytest.fixture(scope="module")
def harness_lm(tokenizer):
    class HarnessEncoding(TemplateLM):
        eot_token_id = tokenizer.eos_token_id
        prefix_token_id = tokenizer.bos_token_id

        def tok_encode(self, string, add_special_tokens=None, **_):
            return tokenizer.encode(string, add_special_tokens=add_special_tokens is not False)

        def _loglikelihood_tokens(self, requests, **_):
            return [(context, continuation) for _, context, continuation in requests]

        def loglikelihood_rolling(self, requests, disable_tqdm=False):
            raise NotImplementedError

        def generate_until(self, requests, disable_tqdm=False):
            raise NotImplementedError

    return HarnessEncoding()


@pytest.mark.parametrize(
    ("context", "continuation"),
    [
        ("Question: Where is the red lamp now?\nAnswer:", " under the old table"),
        ("The candle ", "melted into a little puddle"),
        ("The candle  ", " melted"),
        ("Upper Bram", "m Gate"),
        ("", "the red lamp"),
    ],
)
def test_pairs_are_encoded_as_the_harness_does(tokenizer, harness_lm, context, continuation):
    class Request:
        args = (context, continuation)

    (expected,) = harness_lm.loglikelihood([Request], disable_tqdm=True)
    assert encode_pair(tokenizer.encode, context, continuation) == expected


def test_begin_of_text_is_not_doubled_where_a_template_writes_it(tokenizer):
    once = tokenizer.encode("the red lamp")
    assert once[0] == tokenizer.bos_token_id
    assert encode_prompt(tokenizer.encode, "<s>the red lamp") == once


def test_an_empty_context_needs_a_begin_of_text_token():
    with pytest.raises(TaskError, match="no begin-of-text token"):
        encode_pair(lambda text: [ord(c) for c in text], "", "yes")


def test_cut_left_keeps_the_end():
    assert cut_left([1, 2, 3], 2) == ((2, 3), True)
    assert cut_left([1, 2, 3], 3) == ((1, 2, 3), False)
