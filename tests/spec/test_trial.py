"""Expansion: stable ids, blocks, seeded order, sentinels."""

from typing import Any

from runner.spec.load import ClosedLoop, Load, OpenLoop
from runner.spec.sweep import SweepSpec, parse_sweep
from runner.spec.trial import Block, expand_trials

BLOCK_IDS_OF_0_1 = ["40b78d0445125110", "bbaa229bc2432d22"]


def make_sweep(**changes: Any) -> SweepSpec:
    document: dict[str, Any] = {
        "name": "x",
        "repeats": 2,
        "model": [{"id": "a"}, {"id": "b"}],
        "task": [{"name": "boolq"}, {"name": "hellaswag"}],
        "axes": {"concurrency": [1, 8], "sm_clock": ["default", "60%", 900]},
    }
    return parse_sweep(document | changes)


def trial_ids(blocks: list[Block]) -> list[str]:
    return [trial.trial_id for block in blocks for trial in block.trials]


def test_every_combination_is_there_once() -> None:
    blocks = expand_trials(make_sweep())
    assert len(blocks) == 2 * 2 * 2
    for block in blocks:
        points = [(trial.requested_point.sm_clock, trial.repeat) for trial in block.trials if not trial.is_sentinel]
        assert sorted(map(str, points)) == sorted(str((clock, n)) for clock in ("default", "60%", 900) for n in (0, 1))
    assert len(set(trial_ids(blocks))) == len(trial_ids(blocks))


def test_models_stay_together_so_that_an_engine_is_loaded_once() -> None:
    assert [block.model.id for block in expand_trials(make_sweep())] == ["a"] * 4 + ["b"] * 4


def test_ids_do_not_depend_on_name_order_or_other_points() -> None:
    ids = set(trial_ids(expand_trials(make_sweep())))
    renamed = make_sweep(name="y", description="z", limits={"trial_s": 5})
    assert set(trial_ids(expand_trials(renamed))) == ids
    more = make_sweep(axes={"concurrency": [8, 1], "sm_clock": [900, "60%", "default", 1200]})
    assert ids < set(trial_ids(expand_trials(more)))


def test_ids_depend_on_what_is_measured() -> None:
    ids = set(trial_ids(expand_trials(make_sweep())))
    changes: list[dict[str, Any]] = [
        {"seed": 1},
        {"min_window_s": 3},
        {"max_window_s": 60},
        {"sampling": {"temperature": 0.5}},
        {"max_output_tokens": 9},
    ]
    for change in changes:
        assert ids.isdisjoint(trial_ids(expand_trials(make_sweep(**change))))


def test_sentinels_open_and_close_each_block() -> None:
    for block in expand_trials(make_sweep(repeats=4, sentinel_every=5)):
        sentinels = [trial.is_sentinel for trial in block.trials]
        assert sentinels[0]
        assert sentinels[-1]
        assert sum(sentinels) == 4
        assert [trial.repeat for trial in block.trials if trial.is_sentinel] == [0, 1, 2, 3]


def test_order_is_shuffled_and_repeatable() -> None:
    sweep = make_sweep(axes={"sm_clock": {"spaced": 12}})
    first, again = expand_trials(sweep), expand_trials(sweep)
    assert first == again
    clocks = [
        trial.requested_point.sm_clock for trial in first[0].trials if trial.repeat == 0 and not trial.is_sentinel
    ]
    assert clocks != [f"spaced {k}/12" for k in range(1, 13)]
    assert trial_ids(first) != trial_ids(expand_trials(make_sweep(seed=5, axes={"sm_clock": {"spaced": 12}})))


def test_read_only_leaves_the_default_point() -> None:
    for block in expand_trials(make_sweep(), read_only=True):
        assert all(trial.requested_point.is_default and not trial.is_sentinel for trial in block.trials)
        assert len(block.trials) == 2


def test_override_changes_the_axes_of_what_it_names() -> None:
    sweep = make_sweep(override=[{"model": "a", "task": "boolq", "sm_clock": [300, 600]}])
    for block in expand_trials(sweep):
        clocks = {trial.requested_point.sm_clock for trial in block.trials if not trial.is_sentinel}
        overridden = block.model.id == "a" and block.task.name == "boolq"
        assert clocks == ({300, 600} if overridden else {"default", "60%", 900})


def test_a_hundred_thousand_trials_have_ids_of_their_own() -> None:
    sweep = make_sweep(repeats=500, axes={"concurrency": list(range(1, 6)), "sm_clock": {"spaced": 10}})
    assert len(set(trial_ids(expand_trials(sweep)))) > 100_000


def test_paired_trials_stand_beside_their_trial_with_ids_of_their_own() -> None:
    task = {"name": "synthetic", "num_prompt_tokens": 8, "num_output_tokens": 8, "num_requests": 8}
    [block] = expand_trials(
        make_sweep(
            model=[{"id": "a"}],
            task=[task | {"phases": "output_lengths"}],
            axes={"concurrency": [8], "sm_clock": ["default", 900]},
            sentinel_every=1,
        )
    )
    assert len({trial.trial_id for trial in block.trials}) == len(block.trials) == 3 * 2 * 2 + 5
    groups = "".join("s" if trial.is_sentinel else "t" for trial in block.trials).strip("s").split("s")
    assert groups == ["ttt"] * 4
    measured = [trial for trial in block.trials if not trial.is_sentinel]
    for first in range(0, 12, 3):
        group = measured[first : first + 3]
        assert {trial.phase_role for trial in group} == {None, "one_token", "half_length"}
        assert len({(trial.requested_point, trial.repeat) for trial in group}) == 1
    assert all(trial.phase_role is None for trial in block.trials if trial.is_sentinel)


def test_static_batches_need_no_paired_trials_but_are_other_trials() -> None:
    task = {"name": "synthetic", "num_prompt_tokens": 8, "num_output_tokens": 8, "num_requests": 8}
    plain, static = (expand_trials(make_sweep(task=[task | phases])) for phases in ({}, {"phases": "static_batches"}))
    assert len(trial_ids(plain)) == len(trial_ids(static))
    assert not set(trial_ids(plain)) & set(trial_ids(static))
    assert all(trial.phase_role is None for block in static for trial in block.trials)


def test_a_number_of_requests_a_slot_makes_the_trials_of_that_number() -> None:
    task = {"name": "synthetic", "num_prompt_tokens": 8, "num_output_tokens": 8}
    follows = expand_trials(make_sweep(task=[task | {"num_requests": "4 per slot"}]))
    assert {block.load.concurrency: block.task.num_requests for block in follows} == {1: 4, 8: 32}
    fixed = expand_trials(make_sweep(task=[task | {"num_requests": 32}]))
    at_eight = [block.block_id for block in follows if block.load.concurrency == 8]
    assert at_eight == [block.block_id for block in fixed if block.load.concurrency == 8]


def test_the_ids_of_release_0_1_stay() -> None:
    """Their run directories are continued. The ids were taken from files of that release."""
    sweep = make_sweep(model=[{"id": "a", "engine": {"max_model_len": 512}}], task=[{"name": "boolq", "limit": 9}])
    assert sorted(block.block_id for block in expand_trials(sweep)) == BLOCK_IDS_OF_0_1


def test_rates_and_concurrencies_make_loads_of_their_own() -> None:
    document: dict[str, Any] = {
        "name": "x",
        "model": {"id": "m"},
        "task": [{"name": "boolq"}, {"name": "arc_easy"}, {"name": "hellaswag"}],
        "axes": {"concurrency": [4], "request_rate": [2, "80%"]},
        "slo": {"ttft": "1 s"},
        "override": [
            {"task": "arc_easy", "request_rate": [5], "burstiness": ["inf", 0.5]},
            {"task": "hellaswag", "concurrency": [1]},
        ],
    }
    loads: dict[str, set[Load]] = {}
    for block in expand_trials(parse_sweep(document)):
        loads.setdefault(block.task.name, set()).add(block.load)
    assert loads == {
        "boolq": {
            ClosedLoop(concurrency=4),
            OpenLoop(request_rate_per_s=2.0),
            OpenLoop(capacity_fraction=0.8),
        },
        "arc_easy": {
            OpenLoop(request_rate_per_s=5.0, burstiness=float("inf")),
            OpenLoop(request_rate_per_s=5.0, burstiness=0.5),
        },
        "hellaswag": {ClosedLoop(concurrency=1)},
    }


def test_a_ceiling_is_another_operating_point_and_pinned_ids_stay() -> None:
    document: dict[str, Any] = {"name": "x", "model": {"id": "m"}, "task": {"name": "boolq"}}
    clocks = {"sm_clock": ["default", 1000]}
    (pinned,) = expand_trials(parse_sweep(document | {"axes": clocks}))
    (both,) = expand_trials(parse_sweep(document | {"axes": clocks | {"clock_lock": ["pinned", "ceiling"]}}))
    asked = {(trial.requested_point.sm_clock, trial.requested_point.clock_lock) for trial in both.trials}
    assert asked == {("default", "pinned"), (1000, "pinned"), (1000, "ceiling")}
    assert {trial.trial_id for trial in pinned.trials} <= {trial.trial_id for trial in both.trials}


def test_a_promise_makes_other_trials_and_its_absence_none() -> None:
    document: dict[str, Any] = {"name": "x", "model": {"id": "m"}, "task": {"name": "boolq"}}
    ids = [
        {trial.trial_id for block in expand_trials(parse_sweep(document | slo)) for trial in block.trials}
        for slo in ({}, {"slo": {"ttft": "1 s"}}, {"slo": {"ttft": "1000 ms"}}, {"slo": {"ttft": "2 s"}})
    ]
    assert ids[1] == ids[2]
    assert len({frozenset(one) for one in ids}) == 3
