"""Integrals of what the parts of a simulated GPU did."""

import pytest

from runner.hardware.simulated.rates import PartSums, StepRates
from runner.physics.gpu_model import AT_REST, StepParts

BUSY = StepParts(memory_power_w=100.0, tensor_active_fraction=0.5, dram_active_fraction=0.25, sm_active_fraction=1.0)


def test_sums_grow_by_the_rate_of_the_step_in_force() -> None:
    rates = StepRates()
    rates.append(AT_REST, 0.0)
    rates.append(BUSY, 3.0)
    rates.append(AT_REST, 2.0)
    assert rates.sum_until(0, 3.0) == PartSums(0.0, 0.0, 0.0, 0.0)
    assert rates.sum_until(1, 0.5) == PartSums(50.0, 0.25, 0.125, 0.5)
    assert rates.sum_until(2, 100.0) == PartSums(200.0, 1.0, 0.5, 2.0)


def test_a_tail_that_is_dropped_leaves_no_trace() -> None:
    rates = StepRates()
    rates.append(BUSY, 0.0)
    rates.append(BUSY, 1.0)
    rates.truncate(1)
    rates.append(AT_REST, 4.0)
    assert rates.sum_until(1, 9.0).memory_j == pytest.approx(400.0)
