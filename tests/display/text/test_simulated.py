"""Every display of a simulated GPU says so; the displays' own tests check where."""

from runner.display.text.simulated import BY_CONSTRUCTION, SIMULATED_MEANING, SIMULATED_NOTICE


def test_the_physics_model_is_named_as_such() -> None:
    assert SIMULATED_NOTICE == "SIMULATED GPU"
    assert SIMULATED_MEANING == "seconds and joules come from a physics model, not from a GPU"
    assert "GPU model" not in BY_CONSTRUCTION
