from runner.inference.admission import Admission
from runner.spec.load import ClosedLoop


def test_a_closed_loop_fills_the_places_that_are_free():
    admission = Admission(ClosedLoop(concurrency=3))
    assert [admission.num_admissible(num_in_flight) for num_in_flight in range(4)] == [3, 2, 1, 0]
