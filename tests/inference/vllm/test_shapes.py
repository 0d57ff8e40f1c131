"""Checks the shipped shapes with transformers: it reads them, and finds as many parameters as in the real models."""

from types import SimpleNamespace

import pytest
import torch
from transformers import AutoConfig, AutoModelForCausalLM

from runner.inference.vllm.shapes import read_shape
from runner.physics.shape import SHAPES_DIR, get_shape, shape_names

# From the models' own pages.
NUM_PARAMETERS = {
    "falcon-7b": 6_921_720_704,  # the head tied, as transformers loads it
    "gpt-neo-2.7b": 2_651_307_520,
    "llama-3.2-1b": 1_235_814_400,
    "llama-3.2-3b": 3_212_749_824,
    "mistral-7b": 7_241_732_096,
}
NUM_POSITION_PARAMETERS = {"gpt-neo-2.7b": 2048 * 2560}
"""Learned positions. They are looked up, so they cost no arithmetic."""


@pytest.mark.parametrize("name", NUM_PARAMETERS)
def test_number_of_parameters(name: str) -> None:
    config = AutoConfig.from_pretrained(SHAPES_DIR / name)
    with torch.device("meta"):
        model = AutoModelForCausalLM.from_config(config)
    assert model.num_parameters() == NUM_PARAMETERS[name]
    # The GPU model leaves norms, biases and positions out.
    expected = NUM_PARAMETERS[name] - NUM_POSITION_PARAMETERS.get(name, 0)
    assert get_shape(name).num_parameters == pytest.approx(expected, rel=1e-3)


@pytest.mark.parametrize("name", shape_names())
def test_the_shape_of_an_opened_model_is_read_from_its_configuration(name: str) -> None:
    config = AutoConfig.from_pretrained(SHAPES_DIR / name)
    opened = SimpleNamespace(hf_text_config=config, dtype=torch.bfloat16, model=name)
    assert read_shape(opened) == get_shape(name)


def test_the_precision_is_that_in_which_the_model_runs() -> None:
    config = AutoConfig.from_pretrained(SHAPES_DIR / "mistral-7b")
    shape = read_shape(SimpleNamespace(hf_text_config=config, dtype=torch.float32, model="x"))
    assert shape is not None
    assert (shape.bytes_per_weight, shape.bytes_per_activation) == (4, 4)


def test_a_mixture_of_experts_has_no_shape() -> None:
    config = AutoConfig.for_model("mixtral")
    assert read_shape(SimpleNamespace(hf_text_config=config, dtype=torch.bfloat16, model="x")) is None
