"""The passages behind `tiny_qa`: who carried what to which place, first, then and at last, and a question about it.

Two questions in three name the step ("first"), the others one of the three people, things or places, so that the model
has to find out to which step it belongs.
"""

import random
from typing import Any

_PEOPLE = (
    "Adele the baker", "Boris the smith", "Clara the miller", "Dario the potter",
    "Edith the weaver", "Felix the tailor", "Gunda the painter", "Henrik the mason",
    "Irma the brewer", "Jonas the cooper", "Klara the glazier", "Leon the tanner",
    "Milena the carver", "Norbert the farmer", "Olga the fisher", "Pavel the hunter",
)  # fmt: skip
_THINGS = (
    "a basket of apples", "a sack of flour", "a barrel of herring", "a roll of linen",
    "a jar of pickles", "a pile of bricks", "a bundle of straw", "a crate of eggs",
    "a kettle of soup", "a bucket of paint", "a coil of rope", "a box of nails",
    "a bag of onions", "a tray of rolls", "a cask of cider", "a load of timber",
)  # fmt: skip
_PLACES = (
    "the stone bridge", "the old mill", "the north gate", "the round tower",
    "the wooden church", "the dry well", "the green meadow", "the long wall",
    "the town hall", "the lower dock", "the cherry garden", "the broken fence",
    "the sandy beach", "the winter stable", "the market square", "the hidden cave",
)  # fmt: skip
_STEPS = ("first", "then", "at last")
_VERBS = ("carried", "brought", "took")


def make_passage(rng: random.Random, *, num_questions: int) -> list[dict[str, Any]]:
    """Return at most `num_questions` documents on one passage of three sentences, each with another question."""
    people, things, places = (rng.sample(phrases, len(_STEPS)) for phrases in (_PEOPLE, _THINGS, _PLACES))
    sentences = [
        f"{step.capitalize()} {person} {rng.choice(_VERBS)} {thing} to {place}."
        for step, person, thing, place in zip(_STEPS, people, things, places, strict=True)
    ]
    documents = {}
    for _ in range(num_questions):
        i = rng.randrange(len(_STEPS))
        question, answer = _ask(rng, _STEPS[i], people[i], things[i], places[i])
        documents[question] = {"passage": " ".join(sentences), "question": question, "answer": answer}
    return list(documents.values())


def _ask(rng: random.Random, step: str, person: str, thing: str, place: str) -> tuple[str, str]:
    by_step = (
        (f"Who went {step}?", person),
        (f"What was carried {step}?", thing),
        (f"Where did somebody go {step}?", place),
    )
    by_name = (
        (f"Who went to {place}?", person),
        (f"Who carried {thing}?", person),
        (f"What did {person} carry?", thing),
        (f"What was carried to {place}?", thing),
        (f"Where did {person} go?", place),
        (f"Where was {thing} carried?", place),
    )
    return rng.choice(by_step if rng.random() < 2 / 3 else by_name)
