"""Features of one text that no polars expression computes: vocabulary richness, and how far the text compresses."""

import zlib
from collections.abc import Iterable, Sequence

MTLD_RATIO = 0.72
"""A factor ends where its type-token ratio comes down to this (McCarthy & Jarvis 2010)."""


def measure_mtld(words: Sequence[str]) -> float | None:
    """Return the measure of textual lexical diversity (MTLD): the mean length, in words, of a stretch of varied text.

    A stretch (factor) ends with the word that brings its type-token ratio down to `MTLD_RATIO`. The rest at the end
    counts as a part of a factor: (1 - ratio) / (1 - MTLD_RATIO). The words are read forwards and backwards. A richer
    vocabulary gives a higher value.

    Args:
        words: [num_words] in their order, in one case.
    Returns: None if no word comes twice, because then there is no factor to divide by.
    Source: McCarthy & Jarvis (2010), Behavior Research Methods 42(2), 381-392.
    """
    if len(set(words)) == len(words):
        return None
    return (len(words) / _count_factors(words) + len(words) / _count_factors(reversed(words))) / 2


def measure_compression(text: str) -> float | None:
    """Return the size of a text in UTF-8 over its size after zlib (level 6); None for an empty text.

    The shortest texts have values below 1, since the format adds bytes of its own.
    """
    data = text.encode()
    return len(data) / len(zlib.compress(data, level=6)) if data else None


def _count_factors(words: Iterable[str]) -> float:
    num_factors, num_words = 0, 0
    types: set[str] = set()
    for word in words:
        num_words += 1
        types.add(word)
        if len(types) / num_words <= MTLD_RATIO:
            num_factors += 1
            num_words = 0
            types.clear()
    if num_words == 0:
        return num_factors
    return num_factors + (1 - len(types) / num_words) / (1 - MTLD_RATIO)
