"""The columns of a trial's identity and of its placement."""

from runner.results.measurement import Identity, Placement
from runner.results.tables import TRIALS
from runner.spec.load import ClosedLoop
from runner.spec.operating_point import OperatingPoint

IDENTITY = Identity(
    trial_id="t0",
    block_id="b0",
    model="m",
    task="qa",
    request_kind="generate",
    load=ClosedLoop(concurrency=16),
    repeat=2,
    is_sentinel=False,
    operating_point=OperatingPoint(sm_clock_mhz=1500, power_limit_w=400.0),
    attempt=2,
)
PLACEMENT = Placement(gpu_uuids=("GPU-0",), gpu_name="H200", host="here", fingerprint="f", simulated=False)


def test_an_identitys_columns_are_its_fields_its_load_and_its_operating_point() -> None:
    columns = IDENTITY.columns()
    assert columns == {
        "trial_id": "t0-2",
        "block_id": "b0",
        "model": "m",
        "task": "qa",
        "request_kind": "generate",
        "concurrency": 16,
        "request_rate_per_s_requested": None,
        "capacity_fraction": None,
        "burstiness": None,
        "slo_ttft_s": None,
        "slo_tpot_s": None,
        "slo_e2el_s": None,
        "slo_required_fraction": None,
        "repeat": 2,
        "is_sentinel": False,
        "phase_role": None,
        "attempt": 2,
        "sm_clock_mhz_requested": 1500,
        "mem_clock_mhz_requested": None,
        "power_limit_w_requested": 400.0,
        "clock_lock_requested": None,
    }
    assert set(columns) <= set(TRIALS)


def test_a_row_has_an_id_for_each_attempt() -> None:
    assert (IDENTITY.trial_id, IDENTITY.row_id) == ("t0", "t0-2")


def test_a_placements_columns_are_its_fields() -> None:
    columns = PLACEMENT.columns()
    assert columns["gpu_uuids"] == ["GPU-0"]
    assert (columns["gpu_name"], columns["simulated"], columns["simulated_time_scale"]) == ("H200", False, None)
    assert set(columns) <= set(TRIALS)
    assert not set(columns) & set(IDENTITY.columns())
