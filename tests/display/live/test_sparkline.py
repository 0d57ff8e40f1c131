import pytest

from runner.display.live.sparkline import draw_bars, resample


def test_bars_fill_eighths_of_each_row():
    assert draw_bars([0.0, 1.0, 4.0, 8.0], top=8.0) == ["▁▁▄█"]
    assert draw_bars([8.0, 12.0, 16.0, 99.0], top=16.0, num_rows=2) == [" ▄██", "████"]


def test_unknown_is_empty_and_zero_is_not():
    assert draw_bars([None, 0.0], top=1.0, num_rows=2) == ["  ", " ▁"]


def test_resampling_keeps_the_newest_at_the_right():
    assert resample([1.0, 2.0], 4, capacity=4) == [None, None, 1.0, 2.0]
    assert resample([9.0, 1.0, 2.0, 3.0, 4.0], 4, capacity=4) == [1.0, 2.0, 3.0, 4.0]
    assert resample([], 3, capacity=60) == [None, None, None]


def test_resampling_averages_and_stretches():
    assert resample([1.0, 3.0, 5.0, 7.0], 2, capacity=4) == [2.0, 6.0]
    assert resample([1.0, 3.0, 8.0], 2, capacity=3) == pytest.approx([5 / 3, 19 / 3])
    assert resample([1.0, 3.0], 4, capacity=2) == [1.0, 1.0, 3.0, 3.0]
