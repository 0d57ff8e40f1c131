from types import SimpleNamespace

from runner.inference.vllm.compat import FrontEnd
from runner.inference.vllm.iteration_log import IterationLog
from tests.inference.vllm.stand_in import StandInEngine


def answer(num_outputs, timestamp, *, stats=True, **details):
    """An `EngineCoreOutputs`."""
    counted = {"num_ctx_tokens": 0, "num_generation_tokens": 0, "num_ctx_requests": 0, "num_generation_requests": 0}
    iteration_details = SimpleNamespace(**(counted | {"is_dummy": False} | details)) if details else None
    return SimpleNamespace(
        outputs=[object()] * num_outputs,
        timestamp=timestamp,
        scheduler_stats=SimpleNamespace(iteration_details=iteration_details) if stats else None,
    )


def read(*answers):
    """Return the log of an engine that has fetched some answers."""
    stand_in = StandInEngine()
    log = IterationLog(FrontEnd(stand_in))
    for outputs in answers:
        stand_in.engine_core.outputs_queue.put(outputs)
        assert stand_in.engine_core.get_output() is outputs
    return log


def test_a_step_is_what_the_core_counted():
    prefill = {"num_ctx_tokens": 40, "num_ctx_requests": 2}
    mixed = {"num_ctx_tokens": 10, "num_ctx_requests": 1, "num_generation_tokens": 2, "num_generation_requests": 2}
    log = read(answer(2, 1.5, **prefill), answer(3, 1.75, **mixed))
    assert [(s.time_ns, s.num_prefill_tokens, s.num_decode_tokens, s.num_running) for s in log.steps(10)] == [
        (1_500_000_010, 40, 0, 2),
        (1_750_000_010, 10, 2, 3),
    ]
    assert log.num_outputs == 5


def test_what_is_no_step_of_the_model_is_left_out():
    log = read(answer(0, 1.0, stats=False), answer(0, 1.1, is_dummy=True), answer(1, 1.2))
    assert log.steps(0) == []
    assert log.num_outputs == 1


def test_a_cleared_log_is_empty():
    log = read(answer(2, 1.5, num_ctx_tokens=40))
    log.clear()
    assert (log.num_outputs, log.steps(0)) == (0, [])
