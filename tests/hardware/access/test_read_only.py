"""SWEEP_CLOCKS=read-only overrides everything else."""

import pytest

from runner.hardware.access.read_only import environment_forbids_setting, resolve_clocks_mode


@pytest.mark.parametrize(
    ("environment", "flag", "sweep_file", "mode"),
    [
        (None, None, None, "apply"),
        (None, "read-only", "apply", "read-only"),
        (None, None, "read-only", "read-only"),
        (None, "apply", "read-only", "apply"),
        ("", "apply", None, "apply"),
        ("apply", "read-only", None, "read-only"),
        ("apply", None, "read-only", "apply"),
        ("read-only", "apply", "apply", "read-only"),
        ("read-only", None, None, "read-only"),
    ],
)
def test_who_wins(
    monkeypatch: pytest.MonkeyPatch, environment: str | None, flag: str | None, sweep_file: str | None, mode: str
) -> None:
    monkeypatch.delenv("SWEEP_CLOCKS", raising=False)
    if environment is not None:
        monkeypatch.setenv("SWEEP_CLOCKS", environment)
    assert resolve_clocks_mode(flag, sweep_file) == mode
    assert environment_forbids_setting() == (environment == "read-only")


def test_other_values_are_errors_that_forbid(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ValueError, match="--clocks is 'lock'"):
        resolve_clocks_mode("lock")
    monkeypatch.setenv("SWEEP_CLOCKS", "readonly")
    with pytest.raises(ValueError, match="SWEEP_CLOCKS is 'readonly'"):
        resolve_clocks_mode("apply")
    assert environment_forbids_setting()
