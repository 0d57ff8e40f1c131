"""What a probe found, and what is assumed where it found nothing."""

from typing import Any

import pytest

from runner.results.sensors import ASSUMED_AVERAGE_S, ASSUMED_PERIOD_S, SensorFinding, SensorFindings, SensorName

NONE = SensorFinding(supported=False, reason="not supported")


def find(name: SensorName, **finding: Any) -> SensorFindings:
    sensors = dict.fromkeys(ASSUMED_PERIOD_S, NONE) | {name: SensorFinding(supported=True, **finding)}
    return SensorFindings(
        gpu_uuid="GPU-0",
        driver_version="580",
        sensors=sensors,
        power_source=None,
        energy_source=None,
        choice="for a test",
    )


@pytest.mark.parametrize(
    ("name", "finding", "period_s", "averaging_window_s", "reach_s"),
    [
        ("samples", {"update_period_s": 0.025, "averaging_window_s": 0.01}, 0.025, 0.01, 0.025),
        ("average", {"update_period_s": 0.1, "averaging_window_s": 1.0}, 0.1, 1.0, 1.0),
        # Nothing was found: a published period, and the least favourable window.
        ("samples", {}, 0.02, 0.0, 0.02),
        ("average", {}, 0.1, ASSUMED_AVERAGE_S, ASSUMED_AVERAGE_S),
        ("average", {"averaging_window_max_s": 0.1}, 0.1, 0.0, 0.1),  # seen to be no long average
        ("instant", {"averaging_window_max_s": 0.1}, 0.1, 0.0, 0.1),
    ],
)
def test_times_are_as_found_or_else_as_assumed(
    name: SensorName, finding: dict[str, float], period_s: float, averaging_window_s: float, reach_s: float
) -> None:
    found = find(name, **finding)
    assert found.period_s(name) == period_s
    assert found.averaging_window_s(name) == averaging_window_s
    assert found.reach_s(name) == reach_s


@pytest.mark.parametrize(
    ("finding", "words"),
    [
        ({"update_period_s": 0.02, "averaging_window_s": 0.0, "buffer_length": 120, "call_us": 31.4},
         "every 20.0 ms, sees 0 ms, 120 buffered, 31 us a call"),
        ({"averaging_window_max_s": 0.1, "reason": "it did not change"},
         "unknown period, sees 100 ms at most (it did not change)"),
    ],
)  # fmt: skip
def test_a_finding_is_said_in_words(finding: dict[str, Any], words: str) -> None:
    assert SensorFinding(supported=True, **finding).describe() == words
    assert NONE.describe() == "not there (not supported)"


def test_findings_are_kept_as_json() -> None:
    kept = find("counter", update_period_s=0.1).to_json()
    assert kept["sensors"]["counter"]["update_period_s"] == 0.1
    assert kept["sensors"]["instant"] == {**kept["sensors"]["instant"], "supported": False, "reason": "not supported"}
