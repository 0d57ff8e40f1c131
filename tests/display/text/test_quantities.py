import pytest

from runner.display.text.quantities import (
    UNKNOWN,
    format_change,
    format_change_interval,
    format_duration,
    format_energy,
    format_number,
    format_power,
    format_timestamp,
)

MINUS = "\N{MINUS SIGN}"


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0.00812, "0.00812"),
        (0.1287, "0.129"),
        (0.9996, "1.00"),
        (12.34, "12.3"),
        (431.7, "432"),
        (12431.4, "12,431"),
        (0, "0"),
        (None, UNKNOWN),
        (-1.5, f"{MINUS}1.50"),
    ],
)
def test_numbers_have_three_significant_digits(value, text):
    assert format_number(value) == text


@pytest.mark.parametrize(
    ("fraction", "text"),
    [(-0.2314, f"{MINUS}23.1 %"), (0.04, "+4.0 %"), (-0.0001, "+0.0 %"), (None, UNKNOWN)],
)
def test_changes_carry_their_sign(fraction, text):
    assert format_change(fraction) == text


@pytest.mark.parametrize(
    ("low", "high", "text"),
    [
        (-0.2514, -0.2114, f"{MINUS}23.1 ±2.0"),
        (-0.2315, -0.2313, f"{MINUS}23.1 ±0.0"),
        (-0.60, 0.2, f"{MINUS}23 ±40"),
        (None, None, f"{MINUS}23.1"),
    ],
)
def test_changes_carry_their_interval(low, high, text):
    assert format_change_interval(-0.2314, low, high) == text
    assert format_change_interval(None, low, high) == UNKNOWN


def test_units_fit_the_size():
    assert [format_energy(value) for value in (0.0, 999.4, 999.9, 148_200, 9_731_000, None)] == [
        "0 J",
        "999 J",
        "1.00 kJ",
        "148 kJ",
        "9.73 MJ",
        UNKNOWN,
    ]
    assert format_power(3420) == "3.42 kW"


def test_durations_have_two_units():
    assert [format_duration(value) for value in (0, 59.4, 760, 3_840, 90_000, None)] == [
        "0 s",
        "59 s",
        "12 min 40 s",
        "1 h 04 min",
        "1 d 01 h",
        UNKNOWN,
    ]
    assert format_duration(760, whole_minutes=True) == "13 min"
    assert format_duration(40, whole_minutes=True) == "40 s"


def test_timestamps_show_hours_when_there_are_any():
    assert [format_timestamp(value) for value in (-1, 3.9, 760, 17_420)] == ["00:00", "00:03", "12:40", "4:50:20"]
