"""Models with labels, and the variants that a grid of engine arguments stands for."""

import re
import tomllib
from pathlib import Path
from typing import Any

from runner.spec.sweep import SweepSpec, parse_sweep
from runner.spec.trial import Block, expand_trials

GRID = {"dtype": ["bfloat16", "float16"], "quantization": ["default", "fp8"]}


def make_sweep(*models: dict[str, Any], **changes: Any) -> SweepSpec:
    document: dict[str, Any] = {
        "name": "x",
        "model": list(models),
        "task": [{"name": "boolq"}, {"name": "hellaswag"}],
        "axes": {"concurrency": [1, 8], "sm_clock": ["default", 900]},
    }
    return parse_sweep(document | changes)


def block_ids(blocks: list[Block]) -> set[str]:
    return {block.block_id for block in blocks}


def test_a_grid_stands_for_one_labelled_model_a_combination() -> None:
    sweep = make_sweep({"id": "org/m", "engine": {"max_model_len": 512}, "grid": GRID})
    assert [model.label for model in sweep.models] == [
        "org/m, dtype=bfloat16, quantization=default",
        "org/m, dtype=bfloat16, quantization=fp8",
        "org/m, dtype=float16, quantization=default",
        "org/m, dtype=float16, quantization=fp8",
    ]
    assert sweep.models[2].engine == {"max_model_len": 512, "dtype": "float16"}
    assert sweep.models[3].engine == {"max_model_len": 512, "dtype": "float16", "quantization": "fp8"}


def test_blocks_of_a_variant_stand_together_so_that_each_is_loaded_once() -> None:
    labels = [block.model.label for block in expand_trials(make_sweep({"id": "m", "grid": GRID}, {"id": "n"}))]
    assert len(labels) == 5 * 4
    assert len([label for place, label in enumerate(labels) if place == 0 or labels[place - 1] != label]) == 5


def test_ids_depend_on_the_engine_arguments_and_not_on_where_they_stand_or_what_the_model_is_called() -> None:
    plain = block_ids(expand_trials(make_sweep({"id": "m", "engine": {"dtype": "float16"}})))
    labelled = block_ids(expand_trials(make_sweep({"id": "m", "label": "half", "engine": {"dtype": "float16"}})))
    varied = block_ids(expand_trials(make_sweep({"id": "m", "grid": GRID})))
    assert plain == labelled
    assert plain < varied
    assert len(varied) == 4 * len(plain)


def test_values_of_any_kind_make_a_label() -> None:
    ngram = {"method": "ngram", "num_speculative_tokens": 3}
    sweep = make_sweep({"id": "m", "label": "a", "grid": {"speculative_config": [ngram], "enforce_eager": True}})
    [model] = sweep.models
    assert model.label == "a, speculative_config={method: ngram, num_speculative_tokens: 3}, enforce_eager=true"
    assert model.engine == {"speculative_config": ngram, "enforce_eager": True}


def test_one_model_may_stand_in_a_sweep_as_often_as_it_has_labels() -> None:
    eager = {"id": "m", "label": "eager", "engine": {"enforce_eager": True}}
    sweep = make_sweep({"id": "m"}, eager)
    assert [model.label for model in sweep.models] == ["m", "eager"]
    assert len(block_ids(expand_trials(sweep))) == 2 * 2 * 2


def test_an_override_names_a_label_or_by_the_id_every_model_of_that_id() -> None:
    models = ({"id": "m", "grid": {"dtype": ["bfloat16", "float16"]}}, {"id": "n"})
    one = make_sweep(*models, override=[{"model": "m, dtype=float16", "concurrency": [64]}])
    asked = [one.axes_of(model, one.task[0]).concurrency for model in one.models]
    assert asked == [(1, 8), (64,), (1, 8)]
    every = make_sweep(*models, override=[{"model": "m", "concurrency": [64]}])
    assert [every.axes_of(model, every.task[0]).concurrency for model in every.models] == [(64,), (64,), (1, 8)]


def test_models_that_differ_in_their_label_alone_may_run_at_concurrencies_of_their_own() -> None:
    models = ({"id": "m"}, {"id": "m", "label": "again"})
    blocks = expand_trials(make_sweep(*models, override=[{"model": "again", "concurrency": [32]}]))
    assert len(block_ids(blocks)) == len(blocks) == 2 * 2 + 2


def test_a_manifest_keeps_labels_and_grid() -> None:
    sweep = make_sweep({"id": "m", "label": "a", "grid": GRID}, {"id": "n"})
    assert parse_sweep(sweep.model_dump(mode="json")) == sweep


def test_the_documented_examples_are_sweeps() -> None:
    page = (Path(__file__).parents[2] / "docs" / "sweep-file.md").read_text(encoding="utf-8")
    labelled, grid = (
        make_sweep(**tomllib.loads(text)) for text in re.findall(r"```toml\n(\[\[model\]\].*?)```", page, re.DOTALL)
    )
    assert [model.label for model in labelled.models] == ["mistralai/Mistral-7B-v0.3", "mistral with n-grams"]
    labels = [model.label for model in grid.models]
    assert len(labels) == 4
    assert any(label in page.replace("\n", " ") for label in labels)
