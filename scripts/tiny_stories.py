"""The stories behind `tiny_commonsense`: things made of some material, what befalls them, and what becomes of them.

A story never says what a thing is made of; that has to be known. Pairs of (thing, event) are held out of training, so
that a test question is answered only by putting together what the thing is made of and what the event does to that.
"""

import random
from collections.abc import Collection

THINGS: dict[str, tuple[str, ...]] = {
    "glass": ("vase", "bottle", "mirror", "lens", "goblet", "window pane"),
    "clay": ("flower pot", "jug", "roof tile", "bowl", "plate", "oil jar"),
    "iron": ("anvil", "chain", "horseshoe", "nail", "poker", "padlock"),
    "stone": ("pebble", "millstone", "statue", "paving slab", "boulder", "doorstep"),
    "paper": ("letter", "map", "poster", "newspaper", "ticket", "envelope"),
    "wool": ("scarf", "mitten", "sweater", "blanket", "shawl", "stocking"),
    "wood": ("plank", "ladder", "stool", "oar", "broomstick", "crate"),
    "wax": ("candle", "crayon", "honeycomb", "taper", "letter seal", "wax doll"),
    "ice": ("icicle", "snowball", "snowman", "hailstone", "ice cube", "frozen puddle"),
    "rubber": ("ball", "tyre", "rain boot", "hose", "eraser", "bath duck"),
    "sugar": ("lollipop", "toffee", "caramel", "sugar lump", "rock candy", "peppermint"),
}

_SHATTER = "broke into many small pieces"
_MELT = "melted into a little puddle"
_CRUMBLE = "crumbled into sweet dust"
_STILL = "stayed right where it was"

# event -> (how the story tells it, material -> what becomes of the thing)
EVENTS: dict[str, tuple[tuple[str, ...], dict[str, str]]] = {
    "fall": (
        (
            "fell from the roof onto the stones",
            "slipped off the wall and hit the ground",
            "was dropped from the top of the stairs",
        ),
        {
            **dict.fromkeys(("glass", "clay", "ice"), _SHATTER),
            **dict.fromkeys(("iron", "stone", "wood"), "landed with a heavy thud"),
            **dict.fromkeys(("paper", "wool"), "came down without a sound"),
            "wax": "got a dull round dent",
            "rubber": "bounced high up again",
            "sugar": _CRUMBLE,
        },
    ),
    "fire": (
        ("was thrown into the hot fire", "fell into the burning stove", "was pushed into the flames"),
        {
            **dict.fromkeys(("wax", "ice"), _MELT),
            **dict.fromkeys(("paper", "wood"), "burned down to grey ash"),
            **dict.fromkeys(("wool", "rubber"), "burned with a bad smell"),
            **dict.fromkeys(("clay", "stone"), "grew hot but was not hurt"),
            "iron": "glowed in a deep red",
            "glass": "cracked from the great heat",
            "sugar": "turned into sticky brown syrup",
        },
    ),
    "river": (
        ("was thrown into the deep river", "rolled off the bridge into the water", "fell over the side of the boat"),
        {
            **dict.fromkeys(("glass", "clay", "iron", "stone"), "sank to the bottom at once"),
            **dict.fromkeys(("wood", "wax", "rubber", "ice"), "floated on top of the water"),
            **dict.fromkeys(("paper", "wool"), "soaked itself full of water"),
            "sugar": "dissolved until nothing was left",
        },
    ),
    "wind": (
        ("was caught by a strong wind", "stood open to the great storm", "met a sudden gust of wind"),
        {
            **dict.fromkeys(("iron", "stone"), _STILL),
            **dict.fromkeys(("glass", "clay"), "tipped over with a clatter"),
            **dict.fromkeys(("paper",), "flew away over the roofs"),
            **dict.fromkeys(("wool",), "flapped about like a flag"),
            **dict.fromkeys(("wood", "wax", "sugar"), "slid a short way along"),
            **dict.fromkeys(("rubber", "ice"), "rolled away down the lane"),
        },
    ),
    "hammer": (
        ("was struck hard with a hammer", "got a great blow from a hammer", "was hit by the heavy mallet"),
        {
            **dict.fromkeys(("glass", "clay", "ice"), _SHATTER),
            **dict.fromkeys(("paper", "wool"), "took no harm at all"),
            "iron": "rang out like a bell",
            "stone": "lost a chip at one edge",
            "wood": "got a long deep crack",
            "wax": "was squashed quite flat",
            "rubber": "threw the tool back up",
            "sugar": _CRUMBLE,
        },
    ),
    "sun": (
        ("lay all day in the burning sun", "was left out in the summer heat", "was forgotten in the hot sunshine"),
        {
            **dict.fromkeys(("wax", "ice"), _MELT),
            **dict.fromkeys(("paper", "wool", "wood"), "faded to a paler colour"),
            **dict.fromkeys(("iron", "stone"), "became too hot to touch"),
            "glass": "glittered in the bright light",
            "clay": "dried out and grew harder",
            "rubber": "became soft and smelly",
            "sugar": "turned into a sticky lump",
        },
    ),
}

_NAMES = ("Mara", "Tobin", "Ilse", "Bram", "Petra", "Anton", "Lotte", "Hugo", "Nina", "Oskar", "Greta", "Simon")
_PLACES = (
    "the mill",
    "the harbour",
    "the market",
    "the old school",
    "the farm",
    "the bakery",
    "the castle",
    "the forge",
)
_MOODS = ("calm", "busy", "quiet", "noisy", "long", "strange", "happy", "slow")
_TALKS = ("the price of bread", "the new bridge", "a lost dog", "the next feast", "an old song", "the harvest")
_DAYS = ("Monday", "Tuesday", "Friday", "Sunday")

_OPENINGS = (
    "It was a {mood} {day} at {place}. {a} had brought {first}, and {b} had brought {second}.",
    "One {mood} {day} {a} came to {place} with {first}. {b} was there already and had {second}.",
    "{a} and {b} met at {place} on a {mood} {day}. One of them had {first} and the other one had {second}.",
)
_MIDDLES = (
    "For a while they talked about {talk}, and nobody took care of the things.",
    "They sat down and spoke of {talk}, and soon they forgot what they had brought.",
    "While they argued about {talk}, something happened behind their backs.",
)


def material_of(thing: str) -> str:
    """Return what a thing is made of."""
    return next(material for material, things in THINGS.items() if thing in things)


def outcome_of(thing: str, event: str) -> str:
    """Return what becomes of a thing when the event befalls it."""
    return EVENTS[event][1][material_of(thing)]


def hold_out_pairs(seed: int) -> set[tuple[str, str]]:
    """Return the (thing, event) pairs that only the test asks for: one or two of six events for every thing."""
    rng = random.Random(f"pairs-{seed}")
    things = [thing for group in THINGS.values() for thing in group]
    return {(thing, event) for thing in things for event in rng.sample(tuple(EVENTS), rng.choice((1, 2)))}


def tell_story(
    pairs: Collection[tuple[str, str]], others: Collection[tuple[str, str]], rng: random.Random
) -> dict[str, object]:
    """Return a document that asks for a pair drawn from `pairs`, beside another thing's fate drawn from `others`.

    The three wrong choices: what becomes of the other thing (if that differs), and what the event does to things of
    other materials.
    """
    thing, event = rng.choice(sorted(pairs))
    outcome = outcome_of(thing, event)
    other, other_event = rng.choice([p for p in sorted(others) if p[0] != thing and p[1] != event])
    wrong = {outcome_of(other, other_event)} - {outcome}
    alternatives = sorted(set(EVENTS[event][1].values()) - wrong - {outcome})
    choices = [outcome, *sorted(wrong), *rng.sample(alternatives, 3 - len(wrong))]
    rng.shuffle(choices)
    first, second = (f"{'an' if it[0] in 'aeiou' else 'a'} {it}" for it in rng.sample((thing, other), 2))
    a, b = rng.sample(_NAMES, 2)
    opening = rng.choice(_OPENINGS).format(
        mood=rng.choice(_MOODS), day=rng.choice(_DAYS), place=rng.choice(_PLACES), a=a, b=b, first=first, second=second
    )
    fates = [f"the {thing} {rng.choice(EVENTS[event][0])}", f"the {other} {rng.choice(EVENTS[other_event][0])}"]
    rng.shuffle(fates)
    story = (
        f"{opening} {rng.choice(_MIDDLES).format(talk=rng.choice(_TALKS))} First {fates[0]}. A little later {fates[1]}."
    )
    return {
        "story": story,
        "question": f"What became of the {thing}?",
        "start": f"The {thing}",
        "choices": choices,
        "label": choices.index(outcome),
        "pair": f"{thing}/{event}",
    }
