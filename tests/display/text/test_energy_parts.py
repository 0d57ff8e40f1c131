"""What a joule was spent on, in sentences."""

from typing import Any

import pytest

from runner.analysis.run.summary import summarise_operating_points
from runner.display.text.energy_parts import describe_energy_parts
from tests.display.trials import frame, trial

CAPPED = {"tensor_active_fraction": 0.61, "dram_active_fraction": 0.22, "sm_active_fraction": 0.97,
          "throttled_power_s": 9.0}  # fmt: skip
DECODING = {"tensor_active_fraction": 0.03, "dram_active_fraction": 0.62, "sm_active_fraction": 0.85,
            "throttled_power_s": 0.0}  # fmt: skip


def sentences(*rows: dict[str, Any]) -> list[str]:
    return list(describe_energy_parts(summarise_operating_points(frame(*rows)).to_dicts()))


def test_nothing_is_said_where_nothing_is_known() -> None:
    assert sentences(trial(None, 0.5, 1.0), trial(990, 0.4, 1.0)) == []


def test_what_bound_the_default_clock_and_the_least_energy() -> None:
    rows = [trial(clock, joules, 1.0, **parts) for clock, joules, parts in
            ((None, 0.5, CAPPED), (990, 0.4, DECODING), (345, 0.6, DECODING))]  # fmt: skip
    assert sentences(*rows) == [
        "Bound by: power cap at the default clock (tensor cores 61 %, memory bandwidth 22 %, SMs 97 %); "
        "memory bandwidth at 990 MHz (tensor cores 3 %, memory bandwidth 62 %, SMs 85 %)."
    ]


def test_the_memorys_part_of_the_energy() -> None:
    rows = [trial(None, 0.5, 1.0, memory_energy_j=20.0), trial(990, 0.4, 1.0, memory_energy_j=31.0)]
    assert sentences(*rows) == [
        "The GPU's memory takes 20 % at the default clock and 31 % at 990 MHz of the GPU's energy."
    ]


def hosted(clock: int | None, joules: float, host_j: float) -> dict[str, Any]:
    """The host needs the same power at any clock, so a slow clock costs more of it."""
    return trial(clock, joules, 1.0, host_energy_j=host_j)


def test_the_host_moves_the_best_clock_up() -> None:
    """With 100 J of the GPU: 0.50 + 30 % = 0.65; 0.42 + 50 % = 0.63; 0.40 + 70 % = 0.68."""
    points = [hosted(None, 0.50, 30.0), hosted(1500, 0.42, 50.0), hosted(990, 0.40, 70.0)]
    assert sentences(*points) == [
        "With the host's CPU and memory (another 50 % of the GPU's energy there) the least energy is at 1500 MHz: "
        "0.630 J/token (\N{MINUS SIGN}3.1 % against the default clock). Without the host it is at 990 MHz."
    ]


def test_the_best_clock_stays_or_is_alone() -> None:
    stays = sentences(hosted(None, 0.50, 30.0), hosted(990, 0.40, 40.0))
    assert "the least energy is at 990 MHz too: 0.560 J/token" in stays[0]
    alone = sentences(hosted(None, 0.50, 30.0))
    assert alone == ["With the host's CPU and memory (another 30 % of the GPU's energy there) it is 0.650 J/token."]


@pytest.mark.parametrize("missing", [None, 990])
def test_a_host_that_is_not_known_everywhere_is_not_compared(missing: int | None) -> None:
    rows = [hosted(None, 0.50, 30.0), hosted(990, 0.40, 40.0)]
    rows = [row | {"host_energy_j": None} if row["sm_clock_mhz_requested"] == missing else row for row in rows]
    assert sentences(*rows) == []
