import zlib

import pytest

from runner.tasks.features.lexical import measure_compression, measure_mtld


def test_mtld_of_the_published_example():
    # McCarthy & Jarvis (2010) walk through this sentence: the factor ends at the sixth word, at 4 / 6. "for the people"
    # is left and repeats nothing. Backwards: people the for people the (3 / 5), and "by people the of" is left.
    words = ["of", "the", "people", "by", "the", "people", "for", "the", "people"]
    assert measure_mtld(words) == 9


def test_mtld_counts_what_is_left_as_a_part_of_a_factor():
    # Forwards: a b a is left after no factor, ratio 2 / 3 <= 0.72 ends one at the third word; "c d e f g c" is left,
    # 5 / 6. Backwards: c g f e d c: 5 / 6, a: 6 / 7, b: 7 / 8, a: 7 / 9, nothing ends.
    words = list("abacdefgc")
    forwards = 9 / (1 + (1 - 5 / 6) / 0.28)
    backwards = 9 / ((1 - 7 / 9) / 0.28)
    assert measure_mtld(words) == pytest.approx((forwards + backwards) / 2)


def test_mtld_ends_a_factor_at_the_ratio_itself():
    words = [*(f"w{k}" for k in range(18)), *["w0"] * 7, "x"]  # 18 / 25 = 0.72, and one more
    # Backwards: x w0 w0, w0 w0, w0 w0, and 19 words are left, 18 of them different.
    backwards = 26 / (3 + (1 - 18 / 19) / 0.28)
    assert measure_mtld(words) == pytest.approx((26 + backwards) / 2)


@pytest.mark.parametrize("words", [[], ["a"], ["a", "b", "c"]])
def test_mtld_is_unknown_where_nothing_repeats(words: list[str]):
    assert measure_mtld(words) is None


def test_compression_is_zlibs():
    text = "ä" * 500
    assert measure_compression(text) == pytest.approx(1000 / len(zlib.compress(text.encode(), 6)))
    assert measure_compression("x") == pytest.approx(1 / 9)  # zlib's own frame: 2 + 4 bytes, and 3 for the letter
    assert measure_compression("") is None
