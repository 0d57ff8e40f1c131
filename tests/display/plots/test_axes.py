"""Scales and axes fit the values that are drawn."""

import pytest

from runner.display.plots.axes import axis_for, domain_of


def test_an_axis_does_not_make_a_cliff_of_a_little():
    assert domain_of([1.0, 1.01]) == pytest.approx((0.904, 1.106))
    assert domain_of([1.0, None, 2.0]) == (1.0, 2.0)
    assert domain_of([5.0]) == pytest.approx((4.5, 5.5))


def test_every_line_of_a_logarithmic_axis_has_a_number():
    assert axis_for([0.02, 0.9]).to_dict()["values"] == [0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0]
    assert axis_for([0.002, 90.0]).to_dict()["values"] == [0.001, 0.01, 0.1, 1.0, 10.0, 100.0]
    assert "values" not in axis_for([1.0, 2.0]).to_dict()
