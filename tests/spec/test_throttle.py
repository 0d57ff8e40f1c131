"""The values of the column `event_reasons`."""

from runner.spec.throttle import ThrottleReason


def test_the_values_in_run_directories_stay() -> None:
    assert {reason.name: reason.value for reason in ThrottleReason} == {
        "IDLE": 0x1,
        "APPLICATION_CLOCKS": 0x2,
        "POWER_CAP": 0x4,
        "HARDWARE_SLOWDOWN": 0x8,
        "SYNC_BOOST": 0x10,
        "SOFTWARE_THERMAL": 0x20,
        "HARDWARE_THERMAL": 0x40,
        "POWER_BRAKE": 0x80,
        "DISPLAY_CLOCK": 0x100,
    }
    assert ThrottleReason.NONE == 0
