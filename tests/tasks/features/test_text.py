import math

import polars as pl
import pytest

from runner.results.tables import SAMPLES
from runner.tasks.features.text import describe_samples
from runner.tasks.task import Sample

FEATURES = [name for name, kind in SAMPLES.items() if kind.is_numeric()]
WORD_FEATURES = ["word_entropy_bits", "type_token_ratio", "mtld", "automated_readability_index", "coleman_liau_index"]


def describe(*texts: str | None) -> pl.DataFrame:
    return describe_samples("qa", [Sample(sample_id=f"qa/{k}", text=text) for k, text in enumerate(texts)])


def describe_one(text: str | None) -> dict:
    return describe(text).row(0, named=True)


def test_features_keep_their_schema_order_and_ids():
    frame = describe("b b", None, "a")
    assert dict(frame.schema) == SAMPLES
    assert frame.select("task", "sample_id", "text").rows() == [
        ("qa", "qa/0", "b b"),
        ("qa", "qa/1", None),
        ("qa", "qa/2", "a"),
    ]
    assert dict(describe().schema) == SAMPLES
    assert describe().is_empty()


def test_a_text_by_hand():
    row = describe_one("The cat saw the dog. Did the dog see 12 cats?")
    # "the" three times, "dog" twice, cat saw did see 12 cats once each: 11 words of 8 types
    assert row["num_words"] == 11
    assert row["num_characters"] == 45
    shares = [3 / 11, 2 / 11] + [1 / 11] * 6
    assert row["word_entropy_bits"] == pytest.approx(-sum(share * math.log2(share) for share in shares))
    assert row["type_token_ratio"] == pytest.approx(8 / 11)
    assert row["punctuation_fraction"] == pytest.approx(2 / 45)
    assert row["digit_fraction"] == pytest.approx(2 / 45)
    # 35 strokes but the space bar, 33 of them letters or digits; 11 words, 2 sentences
    assert row["automated_readability_index"] == pytest.approx(4.71 * 35 / 11 + 0.5 * 11 / 2 - 21.43)
    assert row["coleman_liau_index"] == pytest.approx(0.0588 * 300 - 0.296 * 100 * 2 / 11 - 15.8)


def test_coleman_liau_gives_its_own_abstract_the_published_grade():
    # Coleman & Liau (1975): 119 words, 639 letters and 5 sentences have the grade 14.5.
    lengths = [5] * 75 + [6] * 44  # 639 letters
    words = ["a" * length for length in lengths]
    sentences = [" ".join(words[k::5]) + "." for k in range(5)]
    assert describe_one(" ".join(sentences))["coleman_liau_index"] == pytest.approx(14.5, abs=0.05)  # as published


def test_words_are_counted_alike_whatever_their_case():
    row = describe_one("Well-known, WELL-KNOWN and don't, Don't")
    assert row["num_words"] == 5
    assert row["type_token_ratio"] == pytest.approx(3 / 5)


@pytest.mark.parametrize(
    ("text", "num_sentences"),
    [
        ("one two three four", 1),
        ("One two. Three four", 2),
        ('He said "stop!" Then he left...  ', 2),
        ("It costs 3.14 euros", 1),
        ("Is it? (It is.) Yes!", 3),
        ("A heading\n\nand a text\nover two lines", 2),
        ("... one two", 1),
    ],
)
def test_sentences_end_at_marks_and_empty_lines(text: str, num_sentences: int):
    row = describe_one(text)
    letters = sum(character.isalnum() for character in text)
    words = row["num_words"]
    grade = 0.0588 * 100 * letters / words - 0.296 * 100 * num_sentences / words - 15.8
    assert row["coleman_liau_index"] == pytest.approx(grade)


# odd input -----------------------------------------------------------------------------------------------------------


def test_no_text_has_no_features():
    assert {name: value for name, value in describe_one(None).items() if name in FEATURES and value is not None} == {}


def test_an_empty_prompt_has_lengths_and_nothing_else():
    known = {name: value for name, value in describe_one("").items() if name in FEATURES and value is not None}
    assert known == {"num_characters": 0, "num_words": 0}


def test_one_word_has_no_mtld():
    row = describe_one("Hello")
    assert (row["num_words"], row["type_token_ratio"], row["mtld"]) == (1, 1.0, None)
    assert math.copysign(1, row["word_entropy_bits"]) == 1
    assert row["word_entropy_bits"] == 0
    assert row["automated_readability_index"] == pytest.approx(4.71 * 5 + 0.5 - 21.43)


def test_marks_alone_are_no_words():
    row = describe_one("?! -- ...")
    assert row["num_words"] == 0
    assert row["punctuation_fraction"] == pytest.approx(7 / 9)
    assert [name for name in WORD_FEATURES if row[name] is not None] == []


def test_digits_alone_are_words_without_a_reading_grade():
    row = describe_one("12 34 12")
    assert (row["num_words"], row["digit_fraction"]) == (3, 6 / 8)
    assert row["type_token_ratio"] == pytest.approx(2 / 3)
    assert row["automated_readability_index"] is None
    assert row["coleman_liau_index"] is None


def test_other_alphabets_have_words_without_a_reading_grade():
    row = describe_one("Кот видел кота. Кот спал.")
    assert row["num_words"] == 5
    assert row["type_token_ratio"] == pytest.approx(4 / 5)
    assert row["automated_readability_index"] is None


@pytest.mark.parametrize("text", ["東京は日本の首都です。", "กรุงเทพเป็นเมืองหลวง"])
def test_scripts_without_spaces_have_no_countable_words(text: str):
    row = describe_one(text)
    assert row["num_words"] is None
    assert [name for name in WORD_FEATURES if row[name] is not None] == []
    assert row["num_characters"] == len(text)
    assert row["compression_ratio"] is not None


def test_a_very_long_prompt():
    row = describe_one(" ".join(f"w{k % 100}" for k in range(278_000)))
    assert row["num_words"] == 278_000
    assert row["word_entropy_bits"] == pytest.approx(math.log2(100))
    assert row["mtld"] == pytest.approx(139)  # 100 / 139 <= 0.72 < 100 / 138, from wherever the cycle is entered


def test_features_do_not_depend_on_the_company(monkeypatch: pytest.MonkeyPatch):
    texts = ["one two two", None, "", "three", "four four five. Six!"]
    together = describe(*texts)
    monkeypatch.setattr("runner.tasks.features.text._NUM_AT_ONCE", 2)
    assert describe(*texts).equals(together)
