"""What a kilowatt-hour costs in money and in carbon, and how much of it a data centre adds.

Options of the command line enter. A `Tariff` leaves. Next: `costs.py`.
"""

import math
import re
from dataclasses import dataclass

MAX_PUE = 10.0
"""A PUE above this is a mistake, such as a percentage."""

_NUMBER = r"(?P<number>[-+]?[\d.,]+(?:[eE][-+]?\d+)?)"
_CURRENCY = r"[^\d\s/.,+-]{1,8}"
_PRICE = re.compile(rf"(?P<before>{_CURRENCY})? ?{_NUMBER} ?(?P<after>{_CURRENCY})? ?/ ?kwh", re.IGNORECASE)
_CARBON = re.compile(rf"{_NUMBER} ?(?P<unit>kg|g) ?(?:co2(?:e|eq)?)? ?/ ?kwh", re.IGNORECASE)
_ONE_PRICE = 'a price for a kWh, 0 or more, such as 0.25/kWh or "0.25 EUR/kWh"'
_ONE_CARBON = 'grams or kilograms of CO2 for a kWh, 0 or more, such as "380 g/kWh" or "0.38 kg/kWh"'


@dataclass(frozen=True, kw_only=True, slots=True)
class Tariff:
    """What a kilowatt-hour costs; None where nothing was said."""

    price_per_kwh: float | None = None
    """In `currency`, >= 0."""
    currency: str | None = None
    """As it was written; None where a price has no currency."""
    carbon_g_per_kwh: float | None = None
    """Grams of CO2, >= 0."""
    pue: float | None = None
    """Power usage effectiveness, 1 to `MAX_PUE`: the energy of the whole data centre over that of its computers."""

    @property
    def factor(self) -> float:
        """What the energy of a GPU is multiplied by. It is 1 where no PUE is given."""
        return 1.0 if self.pue is None else self.pue

    @property
    def money(self) -> str:
        """The heading of money in tables."""
        return self.currency or "cost"

    def __str__(self) -> str:
        price = None if self.price_per_kwh is None else f"{self.price_per_kwh:g} {self.currency or ''}".strip() + "/kWh"
        carbon = None if self.carbon_g_per_kwh is None else f"{self.carbon_g_per_kwh:g} g CO2/kWh"
        pue = None if self.pue is None else f"PUE {self.pue:g}"
        return ", ".join(part for part in (price, carbon, pue) if part is not None)


NO_TARIFF = Tariff()


def parse_tariff(*, price: str | None = None, carbon: str | None = None, pue: str | float | None = None) -> Tariff:
    """Read a tariff as the command line takes it: "0.25 EUR/kWh", "380 g/kWh", "1.2".

    Raises: ValueError: the message names the option, its value and what is allowed.
    """
    price_per_kwh, currency = _read_price(price)
    return Tariff(
        price_per_kwh=price_per_kwh,
        currency=currency,
        carbon_g_per_kwh=_read_carbon(carbon),
        pue=None if pue is None else _read_pue(str(pue)),
    )


def _read_price(text: str | None) -> tuple[float | None, str | None]:
    if text is None:
        return None, None
    match = _PRICE.fullmatch(text.strip())
    if not match or (match["before"] and match["after"]):
        raise _refuse("--price", text, _ONE_PRICE)
    return _read_number("--price", text, match["number"], _ONE_PRICE), match["before"] or match["after"]


def _read_carbon(text: str | None) -> float | None:
    if text is None:
        return None
    match = _CARBON.fullmatch(text.strip())
    if not match:
        raise _refuse("--carbon", text, _ONE_CARBON)
    scale = 1000.0 if match["unit"].lower() == "kg" else 1.0
    return scale * _read_number("--carbon", text, match["number"], _ONE_CARBON)


def _read_pue(text: str) -> float:
    allowed = f"a number from 1 to {MAX_PUE:g}, such as 1.2: the data centre's energy over that of its computers"
    pue = _read_number("--pue", text, text.strip(), allowed)
    if not 1 <= pue <= MAX_PUE:
        raise _refuse("--pue", text, allowed)
    return pue


def _read_number(option: str, text: str, digits: str, allowed: str) -> float:
    """Return a number that is 0 or more. Raises: ValueError."""
    try:
        number = float(digits)
    except ValueError:
        raise _refuse(option, text, allowed) from None
    if not math.isfinite(number) or number < 0:
        raise _refuse(option, text, allowed)
    return number


def _refuse(option: str, text: str, allowed: str) -> ValueError:
    """Return the error for a value. It names the two likely mistakes: a decimal comma and a missing unit."""
    hint = ""
    if re.search(r"\d,\d", text):
        hint = "; write decimals with a point"
    elif "kWh" in allowed and "kwh" not in text.lower():
        hint = "; the unit /kWh is missing"
    return ValueError(f"{option} = {text!r} is not allowed: give {allowed}{hint}")
