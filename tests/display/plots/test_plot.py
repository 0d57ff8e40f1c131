"""Series can be told apart, also by people who do not see red, green or blue, on the page's light and dark ground."""

import math
from itertools import combinations

import pytest

from runner.display.plots.plot import ON_DARK, ON_LIGHT

# What people see who lack one kind of cone, in linear RGB (Machado, Oliveira & Fernandes 2009, severity 1).
SIGHT = {
    "all": ((1, 0, 0), (0, 1, 0), (0, 0, 1)),
    "no red": ((0.152286, 1.052583, -0.204868), (0.114503, 0.786281, 0.099216), (-0.003882, -0.048116, 1.051998)),
    "no green": ((0.367322, 0.860646, -0.227968), (0.280085, 0.672501, 0.047413), (-0.01182, 0.04294, 0.968881)),
    "no blue": ((1.255528, -0.076749, -0.178779), (-0.078411, 0.930809, 0.147602), (0.004733, 0.691367, 0.3039)),
}
MIN_DISTANCE = 0.1
"""In OKLab. 0.02 is about what the eye can just tell side by side; points of a plot are small and apart."""
MIN_CONTRAST = 3.0
"""WCAG 2.1, for what is no text."""


def linear(colour: str) -> list[float]:
    shares = (int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5))
    return [share / 12.92 if share <= 0.04045 else ((share + 0.055) / 1.055) ** 2.4 for share in shares]


def seen(colour: str, sight: str) -> tuple[float, float, float]:
    """In OKLab (Ottosson 2020)."""
    rgb = linear(colour)
    red, green, blue = (min(max(sum(map(math.prod, zip(row, rgb, strict=True))), 0), 1) for row in SIGHT[sight])
    long, medium, short = (
        math.cbrt(a * red + b * green + c * blue)
        for a, b, c in (
            (0.4122214708, 0.5363325363, 0.0514459929),
            (0.2119034982, 0.6806995451, 0.1073969566),
            (0.0883024619, 0.2817188376, 0.6299787005),
        )
    )
    return (
        0.2104542553 * long + 0.793617785 * medium - 0.0040720468 * short,
        1.9779984951 * long - 2.428592205 * medium + 0.4505937099 * short,
        0.0259040371 * long + 0.7827717662 * medium - 0.808675766 * short,
    )


def luminance(colour: str) -> float:
    return sum(weight * share for weight, share in zip((0.2126, 0.7152, 0.0722), linear(colour), strict=True))


@pytest.mark.parametrize("sight", SIGHT)
@pytest.mark.parametrize("colours", [ON_LIGHT, ON_DARK], ids=["light", "dark"])
def test_no_two_series_look_alike(colours, sight):
    distances = {pair: math.dist(seen(pair[0], sight), seen(pair[1], sight)) for pair in combinations(colours, 2)}
    assert min(distances.values()) > MIN_DISTANCE, min(distances, key=distances.get)


@pytest.mark.parametrize(("colours", "ground"), [(ON_LIGHT, "#f5f6f8"), (ON_DARK, "#1d2126")], ids=["light", "dark"])
def test_every_series_stands_out_from_its_ground(colours, ground):
    for colour in colours:
        dim, bright = sorted((luminance(colour), luminance(ground)))
        assert (bright + 0.05) / (dim + 0.05) >= MIN_CONTRAST, colour
