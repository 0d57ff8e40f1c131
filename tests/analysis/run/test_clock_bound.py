from runner.analysis.run.clock_bound import mark_impossible_clocks
from tests.analysis.trial_rows import frame, trial


def verdicts(*rows):
    marked = mark_impossible_clocks(frame(*rows))
    return [bool(of_trial) for of_trial in marked["verdicts"].to_list()]


def row(clock, rate, memory=14001.0, **columns):
    return trial(clock, 1.0, output_tokens_per_s=rate, mem_clock_mhz=memory, **columns)


def test_a_row_faster_than_its_clock_allows_is_marked_and_judged_by_the_last_possible_one():
    # Twice the clock may bring twice the throughput and no more.
    assert verdicts(row(1000, 10.0), row(500, 5.0), row(250, 2.6)) == [False, False, False]
    assert verdicts(row(400, 10.0), row(500, 19.0), row(600, 20.0), row(800, 18.0)) == [False, True, True, False]


def test_noise_is_allowed_for():
    assert verdicts(row(500, 10.0), row(600, 12.4)) == [False, False]
    assert verdicts(row(500, 10.0), row(600, 12.7)) == [False, True]


def test_memory_clocks_and_blocks_are_judged_apart():
    assert verdicts(row(500, 10.0, 405.0), row(600, 50.0, 810.0)) == [False, False]
    assert verdicts(row(500, 10.0), row(600, 50.0, block_id="c")) == [False, False]


def test_rows_without_a_clock_or_a_throughput_are_passed_over():
    assert verdicts(row(500, 10.0), row(600, None), row(700, 13.0) | {"sm_clock_mhz": None}) == [False] * 3
