"""What no expression computes: vocabulary richness, which reads words in their order, and how far a text compresses."""

import zlib
from collections.abc import Iterable, Sequence

MTLD_RATIO = 0.72
"""A factor ends where its type-token ratio comes down to this (McCarthy & Jarvis 2010)."""


def measure_mtld(words: Sequence[str]) -> float | None:
    """Return the measure of textual lexical diversity: the mean number of words that a stretch goes on before it
    repeats itself, read forwards and backwards; higher is richer.

    A stretch (factor) ends with the word that brings its type-token ratio down to `MTLD_RATIO`. What is left at the
    end counts as the part of a factor that it has come: (1 - ratio) / (1 - MTLD_RATIO).

    Args:
        words: [num_words] in order, one case.
    Returns: None where no word comes twice: there is no factor, nor a part of one, to divide by.
    Source: McCarthy & Jarvis (2010), Behavior Research Methods 42(2), 381-392.
    """
    if len(set(words)) == len(words):
        return None
    return (len(words) / _count_factors(words) + len(words) / _count_factors(reversed(words))) / 2


def measure_compression(text: str) -> float | None:
    """Return how many times smaller zlib (level 6) makes a text's UTF-8 bytes; None for an empty text.

    Under 1 for the shortest texts, where the format's own bytes weigh more than what is saved.
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
