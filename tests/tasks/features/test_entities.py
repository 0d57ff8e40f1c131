"""Named entities, with a stand-in for spaCy, which is optional. The stand-in has the functions that are used."""

import sys
from collections.abc import Iterable, Iterator
from types import ModuleType, SimpleNamespace

import polars as pl
import pytest

from runner.tasks.features.entities import NoPipelineError, count_entities
from runner.tasks.features.text import describe_samples
from runner.tasks.task import Sample


class Pipeline:
    """Takes every word that begins with a capital for an entity."""

    pipe_names = ("tok2vec", "ner")
    max_length = 50

    def pipe(self, texts: Iterable[str]) -> Iterator[SimpleNamespace]:
        for text in texts:
            yield SimpleNamespace(ents=tuple(word for word in text.split() if word[0].isupper()))


@pytest.fixture
def spacy(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    module = ModuleType("spacy")

    def load(name: str, exclude: Iterable[str]) -> Pipeline:
        if name != "en_core_web_sm":
            raise OSError(f"[E050] Can't find model '{name}'.")
        return Pipeline()

    module.load = load  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "spacy", module)
    return module


def measure(*texts: str | None, num_words: list[int | None], pipeline: str = "en_core_web_sm") -> list[tuple]:
    samples = pl.DataFrame({"text": texts, "num_words": num_words}, schema={"text": pl.String, "num_words": pl.Int64})
    found = count_entities(samples, pipeline)
    assert set(found["entities_pipeline"]) == {pipeline}
    return found.select("entities_per_100_words", "entities_reason").rows()


def test_density_is_entities_for_each_hundred_words(spacy: ModuleType):
    assert measure("Ada met Grace in Paris .", "someone came", num_words=[5, 2]) == [(60.0, None), (0.0, None)]


def test_each_text_says_why_it_has_none(spacy: ModuleType):
    rows = measure(None, "Ada", "東京", "?", "Ada " * 20, num_words=[None, 1, None, 0, 20])
    assert rows == [
        (None, "no text"),
        (100.0, None),
        (None, "its script sets no spaces between words"),
        (None, "no words"),
        (None, "longer than the 50 characters that the pipeline takes"),
    ]


def test_prompts_are_described_without_spacy(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setitem(sys.modules, "spacy", None)  # importing it would raise
    (row,) = describe_samples("qa", [Sample(sample_id="qa/0", text="Ada")]).to_dicts()
    assert row["entities_per_100_words"] is None
    assert "sweep report RUN --entities en_core_web_sm" in row["entities_reason"]
    assert row["entities_pipeline"] is None


def test_without_spacy_the_message_is_the_command_that_installs_it(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setitem(sys.modules, "spacy", None)
    with pytest.raises(NoPipelineError, match=r"pip install spacy && python -m spacy download en_core_web_sm$"):
        measure("Ada", num_words=[1])


def test_without_the_pipeline_the_message_is_the_command_that_downloads_it(spacy: ModuleType):
    with pytest.raises(NoPipelineError, match="no pipeline 'de_core_news_sm': python -m spacy download de_core_news"):
        measure("Ada", num_words=[1], pipeline="de_core_news_sm")


def test_a_pipeline_without_a_recogniser_is_refused(spacy: ModuleType, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(Pipeline, "pipe_names", ("tagger",))
    with pytest.raises(NoPipelineError, match="recognises no entities"):
        measure("Ada", num_words=[1])
