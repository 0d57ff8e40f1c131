"""A plan as `sweep plan --json` prints it."""

import json

from runner.results.plan import Plan, PlannedTrial
from runner.spec.load import ClosedLoop
from runner.spec.operating_point import OperatingPoint


def test_load_and_operating_point_are_keys_of_the_trial() -> None:
    trial = PlannedTrial(
        trial_id="t",
        block_id="b",
        model="m",
        task="qa",
        load=ClosedLoop(concurrency=8),
        repeat=0,
        is_sentinel=False,
        operating_point=OperatingPoint(sm_clock_mhz=1500),
        problem=None,
        estimated_duration_s=2.0,
        estimated_energy_j=900.0,
    )
    plan = Plan(
        name="s",
        gpu_names=("H200",),
        simulated=True,
        read_only=False,
        trials=(trial,),
        num_finished=0,
        estimated_duration_s=2.0,
        estimated_energy_j=900.0,
    )
    printed = json.loads(json.dumps(plan.to_json()))
    assert printed["trials"] == [
        {
            "trial_id": "t",
            "block_id": "b",
            "model": "m",
            "task": "qa",
            "concurrency": 8,
            "request_rate_per_s_requested": None,
            "capacity_fraction": None,
            "burstiness": None,
            "repeat": 0,
            "is_sentinel": False,
            "sm_clock_mhz": 1500,
            "mem_clock_mhz": None,
            "power_limit_w": None,
            "sm_clock_is_ceiling": False,
            "problem": None,
            "estimated_duration_s": 2.0,
            "estimated_energy_j": 900.0,
        }
    ]
    assert (printed["gpu_names"], printed["num_finished"]) == (["H200"], 0)
