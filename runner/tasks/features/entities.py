"""Named entities in texts, counted by a spaCy pipeline. spaCy is optional and imported only when it is used."""

from importlib import import_module
from typing import Any

import polars as pl

_RECOGNISERS = ("ner", "entity_ruler")
_NOT_NEEDED = ("tagger", "morphologizer", "parser", "senter", "attribute_ruler", "lemmatizer", "textcat")
"""Components that the recognisers of spaCy's own pipelines do not depend on."""
NOT_COUNTED = "entities were not counted: sweep report RUN --entities en_core_web_sm (a spaCy pipeline) does it"


class NoPipelineError(Exception):
    """The pipeline is not available. The message says what to do next."""


def count_entities(samples: pl.DataFrame, pipeline: str) -> pl.DataFrame:
    """Return prompts with the number of named entities per 100 words, or the reason why it is not known.

    Args:
        samples: [num_samples] rows of `tables.SAMPLES`, text and num_words among them.
        pipeline: a spaCy pipeline by name, e.g. en_core_web_sm, or a folder.
    Raises: NoPipelineError: spaCy or the pipeline is missing.
    """
    recogniser = _load(pipeline)
    texts, num_words = samples["text"], samples["num_words"]
    reasons = [_why_not(text, num, recogniser) for text, num in zip(texts, num_words, strict=True)]
    known = [text for text, reason in zip(texts, reasons, strict=True) if reason is None]
    counts = (len(document.ents) for document in recogniser.pipe(known))
    densities = [
        100 * next(counts) / num if reason is None else None for num, reason in zip(num_words, reasons, strict=True)
    ]
    return samples.with_columns(
        entities_per_100_words=pl.Series(densities, dtype=pl.Float64),
        entities_reason=pl.Series(reasons, dtype=pl.String),
        entities_pipeline=pl.lit(pipeline),
    )


def _load(pipeline: str) -> Any:
    download = f"python -m spacy download {pipeline}"
    try:
        spacy = import_module("spacy")
    except ImportError as error:
        raise NoPipelineError(f"spaCy cannot be imported ({error}): pip install spacy && {download}") from None
    try:
        recogniser = spacy.load(pipeline, exclude=_NOT_NEEDED)
    except OSError:
        raise NoPipelineError(f"spaCy has no pipeline {pipeline!r}: {download}") from None
    except (ImportError, ValueError) as error:  # made for another version of spaCy
        raise NoPipelineError(f"pipeline {pipeline!r} cannot be loaded ({error}): {download}") from None
    if not set(_RECOGNISERS) & set(recogniser.pipe_names):
        raise NoPipelineError(f"pipeline {pipeline!r} recognises no entities: it has none of {', '.join(_RECOGNISERS)}")
    return recogniser


def _why_not(text: str | None, num_words: int | None, recogniser: Any) -> str | None:
    if text is None:
        return "no text"
    if num_words is None:
        return "its script sets no spaces between words"
    if num_words == 0:
        return "no words"
    if len(text) > recogniser.max_length:
        return f"longer than the {recogniser.max_length} characters that the pipeline takes"
    return None
