import pytest

from runner.physics.shape import StepWork, decode_work, get_shape, prefill_work, shape_from_config, shape_names


@pytest.mark.parametrize(
    ("name", "num_parameters"),
    [
        ("llama-3.2-1b", 1.236e9),
        ("llama-3.2-3b", 3.213e9),
        ("qwen3-4b", 4.02e9),
        ("mistral-7b", 7.248e9),
        ("mistral-small-24b", 23.57e9),
        ("qwen2.5-32b", 32.76e9),
        ("llama-3.1-70b-fp8", 70.55e9),
    ],
)
def test_shapes_have_their_published_number_of_parameters(name: str, num_parameters: float) -> None:
    assert get_shape(name).num_parameters == pytest.approx(num_parameters, rel=0.01)


def test_quantized_weights_take_one_byte_and_the_kv_cache_two() -> None:
    shape = get_shape("llama-3.1-70b-fp8")
    assert shape.weight_bytes == shape.num_parameters
    assert shape.kv_bytes_per_token == 2 * 80 * 8 * 128 * 2


def test_an_unknown_shape_lists_those_that_there_are() -> None:
    with pytest.raises(ValueError, match=r"no shape is called 'gpt-9'.*mistral-7b") as caught:
        get_shape("gpt-9")
    assert all(name in str(caught.value) for name in shape_names())


@pytest.mark.parametrize(
    ("config", "num_parameters"),
    [
        (  # EleutherAI/gpt-neo-125m, without its learned positions
            {"model_type": "gpt_neo", "num_layers": 12, "hidden_size": 768, "num_heads": 12, "vocab_size": 50257},
            123.5e6,
        ),
        (  # EleutherAI/pythia-160m
            {
                "model_type": "gpt_neox",
                "num_hidden_layers": 12,
                "hidden_size": 768,
                "num_attention_heads": 12,
                "intermediate_size": 3072,
                "vocab_size": 50304,
                "tie_word_embeddings": False,
            },
            162.2e6,
        ),
        (  # tiiuae/falcon-7b: one KV head
            {
                "model_type": "falcon",
                "num_hidden_layers": 32,
                "hidden_size": 4544,
                "num_attention_heads": 71,
                "multi_query": True,
                "vocab_size": 65024,
            },
            6.92e9,
        ),
    ],
)
def test_configs_of_other_families_are_read(config: dict[str, object], num_parameters: float) -> None:
    assert shape_from_config(config).num_parameters == pytest.approx(num_parameters, rel=0.01)


def test_a_config_without_a_size_or_with_experts_is_refused() -> None:
    with pytest.raises(ValueError, match="num_hidden_layers"):
        shape_from_config({"hidden_size": 64, "num_attention_heads": 2, "vocab_size": 100})
    with pytest.raises(ValueError, match="mixture of experts"):
        shape_from_config({"num_local_experts": 8})


def test_decoding_reads_the_weights_once_and_computes_twice_them_a_token() -> None:
    shape = get_shape("mistral-7b")
    num_read = shape.num_layer_parameters + shape.num_head_parameters
    work = decode_work(4, 0)
    assert shape.flops(work) == 2 * num_read * 4
    assert shape.bytes(work) == 2 * num_read + 4 * shape.kv_bytes_per_token


def test_chunks_of_a_prompt_cost_the_flops_of_the_whole() -> None:
    shape = get_shape("llama-3.2-1b")
    first = StepWork(
        num_prefill_tokens=60,
        num_decode_tokens=0,
        num_attended_tokens=60 * 61 // 2,
        num_kv_tokens=0,
        num_logit_rows=0,
    )
    second = StepWork(
        num_prefill_tokens=40,
        num_decode_tokens=0,
        num_attended_tokens=40 * 60 + 40 * 41 // 2,
        num_kv_tokens=60,
        num_logit_rows=1,
    )
    assert shape.flops(first) + shape.flops(second) == shape.flops(prefill_work(1, 100))


def test_a_step_without_tokens_moves_nothing() -> None:
    assert get_shape("mistral-7b").bytes(decode_work(0, 0)) == 0
