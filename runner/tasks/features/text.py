"""Features of the texts of prompts: what may make one input cost more than another. docs/inputs.md defines each.

Texts enter; rows of `tables.SAMPLES` leave. Features that depend on a model's tokens are in `tokens.py`.
"""

from collections.abc import Sequence

import polars as pl

from runner.results.tables import SAMPLES
from runner.tasks.features.entities import NOT_COUNTED
from runner.tasks.features.lexical import measure_compression, measure_mtld
from runner.tasks.task import Sample

_WORD = r"[\p{L}\p{M}\p{N}]+(?:['’\-][\p{L}\p{M}\p{N}]+)*"
_WITHOUT_SPACES = r"[\p{Han}\p{Hiragana}\p{Katakana}\p{Thai}\p{Lao}\p{Khmer}\p{Myanmar}]"
"""Letters of scripts that put no spaces between words."""
_SENTENCE = r"""[\p{L}\p{N}](?s:.)*?(?:[.!?…]+["'”’)\]]*(?:\s|\z)|\n\s*\n|\z)"""
"""From a letter or digit to the end mark that white space follows, to an empty line, or to the end of the text."""
_NUM_AT_ONCE = 10_000
"""Prompts whose words are held in memory together."""


def describe_samples(task: str, samples: Sequence[Sample]) -> pl.DataFrame:
    """Return the features of a task's prompts, without named entities: `entities.count_entities` takes minutes.

    Args:
        task: its name in tables.
        samples: [num_samples]; those without a text (random tokens) get no features.
    Returns: [num_samples] rows of `tables.SAMPLES`, in the samples' order; null for a feature that is not defined.
    """
    frame = pl.DataFrame(
        {
            "task": [task] * len(samples),
            "sample_id": [sample.sample_id for sample in samples],
            "text": [sample.text for sample in samples],
        },
        schema={"task": pl.String, "sample_id": pl.String, "text": pl.String},
    )
    described = pl.concat(
        [_describe_texts(part) for part in frame.iter_slices(_NUM_AT_ONCE)] or [_describe_texts(frame)]
    )
    return described.with_columns(
        entities_per_100_words=None, entities_reason=pl.lit(NOT_COUNTED), entities_pipeline=None
    ).select(pl.col(name).cast(kind) for name, kind in SAMPLES.items())


def _describe_texts(frame: pl.DataFrame) -> pl.DataFrame:
    text = pl.col("text")
    num_letters = text.str.count_matches(r"\p{L}")
    frame = frame.with_columns(
        num_characters=text.str.len_chars(),
        num_letters=num_letters,
        words=pl.when(2 * text.str.count_matches(_WITHOUT_SPACES) <= num_letters).then(
            text.str.to_lowercase().str.extract_all(_WORD)
        ),
    ).with_columns(num_words=pl.col("words").list.len())
    words = frame["words"].to_list()
    texts = frame["text"].to_list()
    # Without words or characters there is no share and no mean.
    per_word = 1 / pl.when(pl.col("num_words") > 0).then(pl.col("num_words"))
    per_character = 1 / pl.when(pl.col("num_characters") > 0).then(pl.col("num_characters"))
    return frame.with_columns(
        pl.Series("mtld", [measure_mtld(value) if value is not None else None for value in words], pl.Float64),
        pl.Series(
            "compression_ratio",
            [measure_compression(value) if value is not None else None for value in texts],
            pl.Float64,
        ),
        _entropy_of_words().alias("word_entropy_bits"),
        type_token_ratio=pl.col("words").list.n_unique() * per_word,
        punctuation_fraction=text.str.count_matches(r"\p{P}") * per_character,
        digit_fraction=text.str.count_matches(r"\p{Nd}") * per_character,
        **_readability(per_word),
    )


def _entropy_of_words() -> pl.Expr:
    """Shannon's entropy of the words' frequencies, in bits. Adding 0 turns the -0 of a single word into 0."""
    entropy = pl.element().unique_counts().entropy(base=2) + 0.0
    return pl.when(pl.col("num_words") > 0).then(pl.col("words").list.agg(entropy))


def _readability(per_word: pl.Expr) -> dict[str, pl.Expr]:
    """Two readability indices, as US school grades; null for texts outside the Latin alphabet.

    Sources: Senter & Smith (1967), AMRL-TR-66-220, who count every stroke of a typewriter except the space bar; Coleman
    & Liau (1975), Journal of Applied Psychology 60(2), 283-284, who count letters and digits.
    """
    text = pl.col("text")
    is_latin = (pl.col("num_letters") > 0) & (2 * text.str.count_matches(r"\p{Latin}") > pl.col("num_letters"))
    num_sentences = text.str.count_matches(_SENTENCE)
    strokes_per_word = text.str.count_matches(r"\S") * per_word
    letters_per_word = text.str.count_matches(r"[\p{L}\p{N}]") * per_word
    sentences_per_word = num_sentences * per_word
    automated = 4.71 * strokes_per_word + 0.5 / sentences_per_word - 21.43
    coleman_liau = 0.0588 * 100 * letters_per_word - 0.296 * 100 * sentences_per_word - 15.8
    return {
        "automated_readability_index": pl.when(is_latin).then(automated),
        "coleman_liau_index": pl.when(is_latin).then(coleman_liau),
    }
