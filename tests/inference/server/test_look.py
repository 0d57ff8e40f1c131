"""Looking at servers: what kinds of them say of themselves, what they can do, and what is wrong with them."""

import re
from pathlib import Path
from typing import Any

import pytest

from runner.inference.server.address import parse_address
from runner.inference.server.facts import Abilities, ServedModel, ServerFacts
from runner.inference.server.look import find_model, look_at_server, make_body_maker, try_out
from runner.inference.server.questions import API_KEY_VARIABLE, ServerAwayError, ServerError
from tests.inference.server.fake_server import SMALL_MODEL, ServerProcess, fake_server, find_free_port

CACHE_CONFIG = 'vllm:cache_config_info{block_size="128",enable_prefix_caching="%s",engine="0"} 1.0\n'


@pytest.fixture(autouse=True)
def _without_key(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(API_KEY_VARIABLE, raising=False)


def look(server: ServerProcess) -> ServerFacts:
    return look_at_server(parse_address(server.url))


@pytest.mark.parametrize(
    ("behaviour", "software", "keeps_prefixes", "max_model_len"),
    [
        (
            {"answers": {"/version": {"version": "0.32.0"}, "/metrics": CACHE_CONFIG % "False"}},
            "vllm 0.32.0",
            False,
            512,
        ),
        ({"answers": {"/version": {"version": "0.30.1"}, "/metrics": CACHE_CONFIG % "True"}}, "vllm 0.30.1", True, 512),
        ({"answers": {}}, "vllm", None, 512),
        (
            {
                "owned_by": "sglang",
                "answers": {"/get_server_info": {"version": "0.5.2", "disable_radix_cache": True}},
            },
            "sglang 0.5.2",
            False,
            512,
        ),
        (
            {
                "owned_by": "llamacpp",
                "models": [{"id": "m", "meta": {"n_ctx_train": 8192}}],
                "answers": {"/props": {"build_info": "b6000", "default_generation_settings": {"n_ctx": 2048}}},
            },
            "llama.cpp b6000",
            False,
            2048,
        ),
        (
            {"owned_by": "tensorrt_llm", "models": [{"id": "m"}], "answers": {"/version": {"version": "1.1"}}},
            "tensorrt-llm 1.1",
            None,
            None,
        ),
        ({"owned_by": "somebody", "models": [{"id": "m"}]}, "unknown software", None, None),
    ],
)
def test_each_kind_says_what_it_is(
    behaviour: dict[str, Any], software: str, keeps_prefixes: bool | None, max_model_len: int | None
) -> None:
    with fake_server(**behaviour) as server:
        facts = look(server)
    assert (facts.software, facts.keeps_prefixes) == (software, keeps_prefixes)
    assert facts.models[0].max_model_len == max_model_len


def test_no_server_there() -> None:
    port = find_free_port()
    with pytest.raises(
        ServerAwayError, match=rf"no server answers at http://127.0.0.1:{port} \(Connect call failed|.*refused"
    ):
        look_at_server(parse_address(f"http://127.0.0.1:{port}"))


@pytest.mark.parametrize(
    ("behaviour", "error", "message"),
    [
        ({"statuses": {"/v1/models": 500}}, ServerError, "answers GET /v1/models with 500: out of order"),
        ({"statuses": {"/v1/models": 503}}, ServerAwayError, "is not ready: it answers GET /v1/models with 503"),
        ({"statuses": {"/v1/models": 404}}, ServerError, "answers GET /v1/models with 404"),
        ({"models": []}, ServerError, "is no OpenAI-compatible server: GET /v1/models gives no list of models"),
        ({"key": "secret"}, ServerError, "answers 401: it wants an API key: set OPENAI_API_KEY"),
    ],
)
def test_what_is_wrong_is_said(behaviour: dict[str, Any], error: type[Exception], message: str) -> None:
    with fake_server(**behaviour) as server, pytest.raises(error, match=re.escape(message)) as found:
        look(server)
    assert type(found.value) is error


def test_the_key_of_the_environment_opens_the_server(monkeypatch: pytest.MonkeyPatch) -> None:
    with fake_server(key="secret") as server:
        monkeypatch.setenv(API_KEY_VARIABLE, "wrong")
        with pytest.raises(ServerError, match="it does not accept the key in OPENAI_API_KEY") as error:
            look(server)
        assert "wrong" not in str(error.value)
        monkeypatch.setenv(API_KEY_VARIABLE, "secret")
        assert look(server).models[0].id == SMALL_MODEL


def make_facts(*models: ServedModel, owner: str = "vllm") -> ServerFacts:
    address = parse_address("http://127.0.0.1:8000")
    return ServerFacts(address=address, owner=owner, version=None, models=models, keeps_prefixes=None)


def test_a_model_is_found_by_name_by_hub_id_and_by_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "folder").mkdir()
    by_name = ServedModel(id="nice-name", root="owner/model", max_model_len=None)
    by_folder = ServedModel(id="other", root=str(tmp_path / "folder"), max_model_len=None)
    facts = make_facts(by_name, by_folder)
    assert find_model(facts, "nice-name") is by_name
    assert find_model(facts, "owner/model") is by_name
    monkeypatch.chdir(tmp_path)
    assert find_model(facts, "folder") is by_folder
    assert find_model(facts, "model") is None


def abilities(*, scores: bool = True, **behaviour: Any) -> Abilities:
    with fake_server(**behaviour) as server:
        facts = look(server)
        return try_out(facts, facts.models[0], scores=scores)


def test_what_a_server_takes_is_tried_out() -> None:
    full = Abilities(takes_token_ids=True, takes_ignore_eos=True, scores_prompts=True)
    assert abilities() == full
    assert abilities(scores=False) == Abilities(takes_token_ids=True, takes_ignore_eos=True, scores_prompts=None)
    assert abilities(gives_scores=False) == Abilities(takes_token_ids=True, takes_ignore_eos=True, scores_prompts=False)
    only_text = Abilities(takes_token_ids=False, takes_ignore_eos=True, scores_prompts=False)
    assert abilities(takes_token_ids=False) == only_text  # log-likelihoods need the tokens' own places
    strict = Abilities(takes_token_ids=False, takes_ignore_eos=False, scores_prompts=False)
    assert abilities(takes_token_ids=False, takes_ignore_eos=False) == strict


def test_a_server_without_token_counts_or_completions_is_refused() -> None:
    with pytest.raises(ServerError, match="reports no token counts in a stream"):
        abilities(reports_usage=False)
    with pytest.raises(ServerError, match=r"answers POST /v1/completions for model .* with 500: engine is dead"):
        abilities(completions_status_after=0)


def test_sampling_that_was_not_asked_for_is_switched_off() -> None:
    model = ServedModel(id="m", root=None, max_model_len=None)
    assert make_body_maker(make_facts(model), model).extra["repetition_penalty"] == 1.0
    assert make_body_maker(make_facts(model, owner="llamacpp"), model).extra["cache_prompt"] is False
    assert make_body_maker(make_facts(model, owner="somebody"), model).extra == {}
