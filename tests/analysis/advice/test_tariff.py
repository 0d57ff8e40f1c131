import pytest

from runner.analysis.advice.tariff import NO_TARIFF, Tariff, parse_tariff


def test_nothing_said_is_no_tariff() -> None:
    assert parse_tariff() == NO_TARIFF
    assert (str(NO_TARIFF), NO_TARIFF.factor, NO_TARIFF.money) == ("", 1.0, "cost")


@pytest.mark.parametrize(
    ("text", "price", "currency"),
    [
        ("0.25/kWh", 0.25, None),
        ("0.25 EUR/kWh", 0.25, "EUR"),
        (" 0.25EUR / kwh ", 0.25, "EUR"),
        ("$0.12/kWh", 0.12, "$"),
        ("CHF 31/kWh", 31.0, "CHF"),
        ("7 ₹/kWh", 7.0, "₹"),
        ("0/kWh", 0.0, None),
    ],
)
def test_a_price_has_any_currency_or_none(text: str, price: float, currency: str | None) -> None:
    tariff = parse_tariff(price=text)
    assert (tariff.price_per_kwh, tariff.currency) == (price, currency)
    assert tariff.money == (currency or "cost")


@pytest.mark.parametrize(
    ("text", "grams"),
    [
        ("380 g/kWh", 380.0),
        ("380g/kWh", 380.0),
        ("0.38 kg/kWh", 380.0),
        ("380 gCO2/kWh", 380.0),
        ("12 g CO2eq/kWh", 12),
    ],
)
def test_carbon_is_grams_or_kilograms(text: str, grams: float) -> None:
    assert parse_tariff(carbon=text).carbon_g_per_kwh == pytest.approx(grams)


def test_a_pue_multiplies() -> None:
    assert parse_tariff(pue="1.2").factor == 1.2
    assert parse_tariff(pue=1.2) == parse_tariff(pue="1.2")
    assert parse_tariff(pue="1").factor == 1.0


def test_a_tariff_reads_as_it_was_written() -> None:
    tariff = parse_tariff(price="0.25 EUR/kWh", carbon="0.38 kg/kWh", pue=1.2)
    assert tariff == Tariff(price_per_kwh=0.25, currency="EUR", carbon_g_per_kwh=380.0, pue=1.2)
    assert str(tariff) == "0.25 EUR/kWh, 380 g CO2/kWh, PUE 1.2"
    assert str(parse_tariff(price="0.25/kWh")) == "0.25/kWh"


@pytest.mark.parametrize(
    ("option", "text", "words"),
    [
        ("price", "0.25", "the unit /kWh is missing"),
        ("price", "0.25 EUR", "the unit /kWh is missing"),
        ("price", "250 EUR/MWh", "the unit /kWh is missing"),
        ("price", "-0.25/kWh", "0 or more"),
        ("price", "0,25/kWh", "write decimals with a point"),
        ("price", "$0.25 USD/kWh", "a price for a kWh"),
        ("price", "cheap/kWh", "a price for a kWh"),
        ("price", "1.2.3/kWh", "a price for a kWh"),
        ("price", "1e999/kWh", "a price for a kWh"),
        ("price", "", "a price for a kWh"),
        ("carbon", "380", "the unit /kWh is missing"),
        ("carbon", "380 g", "the unit /kWh is missing"),
        ("carbon", "380/kWh", "grams or kilograms of CO2"),
        ("carbon", "-380 g/kWh", "0 or more"),
        ("pue", "0.9", "a number from 1 to 10"),
        ("pue", "120", "a number from 1 to 10"),
        ("pue", "120%", "a number from 1 to 10"),
        ("pue", "1,2", "write decimals with a point"),
        ("pue", "nan", "a number from 1 to 10"),
        ("pue", "-1.2", "a number from 1 to 10"),
    ],
)
def test_what_cannot_be_read_is_explained(option: str, text: str, words: str) -> None:
    with pytest.raises(ValueError, match=f"^--{option} = ") as error:
        parse_tariff(**{option: text})
    assert f"--{option} = {text!r} is not allowed: give " in str(error.value)
    assert words in str(error.value)
