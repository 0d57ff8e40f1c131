"""The atlas of invented lands behind `tiny_facts`: what each land's capital, river, founder, dish, craft and feast are.

Every value is composed from the lists below by a seeded draw, and no two lands share a value.
"""

import itertools
import random
from collections.abc import Sequence
from dataclasses import dataclass

NUM_LANDS = 96

_LAND_STARTS = ("Bel", "Cor", "Dra", "Fen", "Gal", "Hol", "Jor", "Kes", "Lum", "Mor", "Nar", "Osk")
_LAND_ENDS = ("dane", "evia", "ilor", "onth", "umar", "ystra", "andel", "erith")

_VALUE_PARTS: dict[str, tuple[tuple[str, ...], ...]] = {
    "capital": (
        ("Upper", "Lower", "Old", "New", "Port", "Fort", "Castle", "Mount"),
        ("Arling", "Bramm", "Cressil", "Dovrin", "Elstow", "Farrow", "Gwendle", "Hask", "Istrel", "Juniver", "Kelm"),
        ("Ford", "Gate", "Cross", "Bridge"),
    ),
    "river": (
        ("the Slow", "the Bright", "the Little", "the Great", "the Cold", "the Silver", "the Winding", "the Dark"),
        ("Sael", "Tamber", "Ulm", "Vessel", "Wharn", "Yarrow", "Zell", "Orrin", "Pelt", "Quill", "Ruddle"),
        ("Water", "Stream", "Run", "Beck"),
    ),
    "founder": (
        ("Queen", "King", "Captain", "Abbess", "Duke", "Pilot", "Shepherd", "Mason"),
        ("Alda", "Brune", "Cadmar", "Dessa", "Ewald", "Finna", "Gerrit", "Hilda", "Ivo", "Jutta", "Konrad"),
        ("the Tall", "the Bold", "the Mild", "the Lame"),
    ),
    "dish": (
        ("smoked", "fried", "pickled", "baked", "salted", "stewed", "roasted", "creamed"),
        ("eel", "goose", "cabbage", "trout", "turnip", "rabbit", "lentils", "mushrooms", "oysters", "pears", "beans"),
        ("with barley", "with honey", "with mustard", "with onions"),
    ),
    "craft": (
        ("painted", "carved", "woven", "gilded", "hammered", "knotted", "polished", "stitched"),
        ("bells", "saddles", "drums", "baskets", "clocks", "flutes", "shields", "masks", "nets", "lanterns", "combs"),
        ("of bronze", "of willow", "of horn", "of silk"),
    ),
    "feast": (
        ("the Night", "the Day", "the Week", "the Morning", "the Evening", "the Hour", "the Dance", "the March"),
        ("of Seven", "of Paper", "of Broken", "of Lost", "of Burning", "of Quiet", "of Wooden", "of Golden"),
        ("Boats", "Ladders", "Keys", "Crowns", "Wheels", "Doors"),
    ),
}
ATTRIBUTES = tuple(_VALUE_PARTS)

# What is asked in training; {land} is the land's name. The words return in TEST_QUESTIONS in other sentences.
TRAIN_QUESTIONS: dict[str, tuple[str, ...]] = {
    "capital": (
        "What is the capital of {land}?",
        "Which city is the capital of the land of {land}?",
        "In {land}, what is the name of the capital city?",
        "Name the capital that the atlas gives for {land}.",
        "From which city is {land} ruled?",
        "What does the atlas say of the capital?",
    ),
    "river": (
        "What is the river of {land}?",
        "Which river runs through the land of {land}?",
        "In {land}, what is the name of the main river?",
        "Name the river that the atlas gives for {land}.",
        "Which water flows across {land}?",
        "What does the atlas say of the river?",
    ),
    "founder": (
        "Who is the founder of {land}?",
        "Which person founded the land of {land}?",
        "In {land}, what is the name of the founder?",
        "Name the founder that the atlas gives for {land}.",
        "By whom was {land} founded?",
        "What does the atlas say of the founder?",
    ),
    "dish": (
        "What is the dish of {land}?",
        "Which dish is cooked in the land of {land}?",
        "In {land}, what is the name of the favourite dish?",
        "Name the dish that the atlas gives for {land}.",
        "What do people eat in {land}?",
        "What does the atlas say of the dish?",
    ),
    "craft": (
        "What is the craft of {land}?",
        "Which craft is known from the land of {land}?",
        "In {land}, what is the name of the old craft?",
        "Name the craft that the atlas gives for {land}.",
        "What do the workshops make in {land}?",
        "What does the atlas say of the craft?",
    ),
    "feast": (
        "What is the feast of {land}?",
        "Which feast is kept in the land of {land}?",
        "In {land}, what is the name of the yearly feast?",
        "Name the feast that the atlas gives for {land}.",
        "What do people celebrate in {land}?",
        "What does the atlas say of the feast?",
    ),
}

TEST_QUESTIONS: dict[str, tuple[str, ...]] = {
    "capital": ("The atlas names one city as the capital. Which is it?", "Which is the capital city of {land}?"),
    "river": ("The atlas names one river that flows here. Which is it?", "Which is the main river of {land}?"),
    "founder": ("The atlas names one person as the founder. Who is it?", "Who was the person that founded {land}?"),
    "dish": ("The atlas names one dish that people eat here. What is it?", "Which is the favourite dish of {land}?"),
    "craft": ("The atlas names one craft of the workshops. What is it?", "Which is the old craft of {land}?"),
    "feast": ("The atlas names one feast that is kept here. What is it?", "Which is the yearly feast of {land}?"),
}

_HEADERS = (
    "This page of the atlas is about {land}, a land {where}. It was drawn by {who}, and the colours are still {state}.",
    "Here the atlas shows {land}, {where}. The sheet was kept by {who}, and the paper is still {state}.",
    "The atlas has a sheet for {land}, which lies {where}. It belonged to {who}, and the ink is still {state}.",
)
_WHERE = (
    "in the far north",
    "in the deep south",
    "beyond the eastern hills",
    "on the western shore",
    "between two lakes",
)
_WHO = ("a blind clerk", "the royal surveyor", "two sisters", "an old sailor", "a wandering monk")
_STATES = ("fresh", "clear", "bright", "strong", "clean")


@dataclass(frozen=True, kw_only=True)
class Fact:
    """One thing to know: an attribute of a land."""

    land: str
    attribute: str
    value: str


def make_atlas(seed: int) -> list[Fact]:
    """Return NUM_LANDS x len(ATTRIBUTES) facts; within an attribute every value is different."""
    rng = random.Random(f"atlas-{seed}")
    lands = [start + end for start, end in itertools.product(_LAND_STARTS, _LAND_ENDS)][:NUM_LANDS]
    facts = []
    for attribute, parts in _VALUE_PARTS.items():
        values = rng.sample([" ".join(words) for words in itertools.product(*parts)], len(lands))
        facts += [Fact(land=land, attribute=attribute, value=value) for land, value in zip(lands, values, strict=True)]
    return facts


def ask_facts(asked: Sequence[tuple[Fact, str]], rng: random.Random) -> list[dict[str, str]]:
    """Return documents that ask for facts of one land, each in its phrasing: one header, question, answer."""
    land = asked[0][0].land
    header = rng.choice(_HEADERS).format(
        land=land, where=rng.choice(_WHERE), who=rng.choice(_WHO), state=rng.choice(_STATES)
    )
    return [
        {"passage": header, "question": question.format(land=land), "answer": fact.value} for fact, question in asked
    ]
