from runner.inference.admission import Admission, ArrivalAdmission
from runner.inference.arrivals import draw_arrivals
from runner.spec.load import ClosedLoop, OpenLoop


def test_a_closed_loop_fills_the_places_that_are_free():
    admission = Admission(ClosedLoop(concurrency=3))
    assert [admission.num_admissible(num_in_flight) for num_in_flight in range(4)] == [3, 2, 1, 0]


def make_admission() -> ArrivalAdmission:
    """Two requests in a ramp of 1 s, four in a window of 2 s, followed for 30 s."""
    load = OpenLoop(request_rate_per_s=2.0, burstiness=float("inf"))
    return ArrivalAdmission(draw_arrivals(load, num_round=4, min_window_s=2.0, ramp_s=1.0, seed=0))


def test_requests_arrive_in_order_and_those_of_the_window_are_told_apart():
    admission = make_admission()
    assert admission.next_s == 0.5
    arrivals = [admission.arrive() for _ in range(7)]
    assert [time_s for time_s, _ in arrivals] == [0.5, 1.0, 1.5, 2.0, 2.5, 3.0, 3.5]
    assert [in_window for _, in_window in arrivals] == [False, False, True, True, True, True, False]


def test_a_run_is_over_when_the_requests_of_its_window_have_ended():
    admission = make_admission()
    for in_window in (False, False, True, True, True):
        admission.end(in_window=in_window)
    assert not admission.is_over(10.0)
    admission.end(in_window=True)
    assert not admission.is_over(2.9)
    assert admission.is_over(3.0)


def test_a_run_is_over_at_its_limit():
    assert [make_admission().is_over(elapsed_s) for elapsed_s in (32.9, 33.0)] == [False, True]
