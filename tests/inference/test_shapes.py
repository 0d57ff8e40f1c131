"""Shipped shapes are configurations that transformers reads, with as many parameters as the models they stand for."""

import pytest
import torch
from transformers import AutoConfig, AutoModelForCausalLM

from runner.physics.shape import SHAPES_DIR, get_shape

# As the models' own pages give them.
NUM_PARAMETERS = {
    "falcon-7b": 6_921_720_704,  # the head tied, as transformers loads it
    "gpt-neo-2.7b": 2_651_307_520,
    "llama-3.2-1b": 1_235_814_400,
    "llama-3.2-3b": 3_212_749_824,
    "mistral-7b": 7_241_732_096,
}
NUM_POSITION_PARAMETERS = {"gpt-neo-2.7b": 2048 * 2560}
"""Learned positions: looked up, so that they cost no arithmetic."""


@pytest.mark.parametrize("name", NUM_PARAMETERS)
def test_number_of_parameters(name: str) -> None:
    config = AutoConfig.from_pretrained(SHAPES_DIR / name)
    with torch.device("meta"):
        model = AutoModelForCausalLM.from_config(config)
    assert model.num_parameters() == NUM_PARAMETERS[name]
    # The board model leaves norms, biases and positions out.
    expected = NUM_PARAMETERS[name] - NUM_POSITION_PARAMETERS.get(name, 0)
    assert get_shape(name).num_parameters == pytest.approx(expected, rel=1e-3)
