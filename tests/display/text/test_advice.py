from runner.analysis.advice.limits import Limits
from runner.analysis.study import study_trials
from runner.display.text.advice import (
    describe_advice,
    describe_concurrency,
    describe_evidence,
    describe_mixed_load,
    describe_options,
    describe_outputs,
    describe_recommendation,
    describe_route,
)
from tests.analysis.trial_rows import block, frame, trial
from tests.display.studies import CHANGES, make_study

MINUS = "\N{MINUS SIGN}"


def advice(rows, limits=None):
    study = study_trials(frame(*rows)) if limits is None else study_trials(frame(*rows), limits)
    return describe_advice(study)


def test_one_block_gets_one_sentence():
    [sentence] = advice(block(CHANGES))
    assert sentence.startswith("qa on small, 4 in flight: set 990 MHz: it saves 20.0 ± ")
    assert "% of the energy, +10.0 % in time, quality not known. The interval allows for the choice among 3" in sentence


def test_several_blocks_get_one_setting_for_all():
    rows = block(CHANGES) + block({1500: (0.80, 1.01), 990: (0.95, 1.05)}, block_id="c", task="cloze")
    [sentence] = advice(rows, Limits(max_slowdown=0.2))
    assert sentence.startswith("Set 1500 MHz on gpu: over 2 combinations of model, task and load it ")
    assert " it saves 17.5 ± " in sentence
    assert (
        "% of the energy on average, +1.0 % to +2.0 % in time, quality not known for at least one of them. " in sentence
    )
    assert sentence.endswith(" Limits: at most 20 % slower.")


def test_a_setting_for_all_that_saves_nothing_points_to_the_blocks_that_could():
    rows = block({990: (0.8, 1.0)}) + block({990: (1.5, 1.0)}, block_id="c", task="cloze")
    [sentence] = advice(rows)
    assert sentence.startswith("Keep the default clock on gpu: over 2 combinations ")
    assert "no other operating point that is allowed in all of them saves energy." in sentence
    assert sentence.endswith("Set separately, 1 of them would save energy.")


def test_thin_evidence_is_said_instead_of_a_recommendation():
    [sentence] = advice([trial(None, 1.0), trial(990, 0.8, 1.1)])
    assert "least at 990 MHz (−20.0 %, +10.0 % in time), but do not rely on it: too few trials" in sentence
    [sentence] = advice([trial(None, 1.0), trial(990, 0.8, verdicts=["trace_gap"])])
    assert sentence == "qa on small, 4 in flight: no recommendation, since only the default clock has a sound trial."
    rows = [
        trial(None, 1.0),
        trial(990, 0.8),
        *(trial(c, j, task="t", block_id="c") for c, j in ((None, 1.0), (990, 0.7))),
    ]
    [sentence] = advice(rows)
    assert sentence.startswith("Least energy at 990 MHz on gpu, over 2 combinations ")
    assert (
        f": {MINUS}25.0 % on average, +0.0 % in time, quality not known for at least one of them; but do not "
        in sentence
    )


def row(**columns):
    recommended = make_study().recommendations.filter(task="qa", goal="energy", model="org/small", concurrency=16)
    return recommended.row(0, named=True) | columns


def test_doubts_about_limits_and_gpus_are_said():
    text = describe_recommendation(row(doubtful_limits=["slowdown", "TTFT"], default_is_on_same_board=False))
    assert "Its interval reaches beyond the limit on slowdown and TTFT." in text
    assert "The default clock ran on another GPU" in text
    assert describe_evidence(row(doubtful_limits=["slowdown"])) == "shown; may break the limit on slowdown"
    assert describe_evidence(row(conclusion="unproven", reason="of this")) == "not shown: of this"


def test_outputs_are_told_with_what_two_default_trials_share():
    assert describe_outputs(row()) == "at least 99.0 % identical, 100.0 % between two default-clock trials"
    assert describe_outputs(row(least_output_agreement=1.0)) == "identical"
    assert describe_outputs(row(least_output_agreement=None)) == ""


def test_a_mixed_load_without_a_choice_says_why():
    study = make_study(Limits(max_ttft_s=0.1))  # which nothing here tells
    [mixed] = study.mixed_loads.to_dicts()
    text = describe_mixed_load(mixed)
    assert text.startswith("No single operating point is recommended on gpu over 5 combinations")
    assert "load: no operating point keeps the limits" in text


def test_a_mixed_load_says_what_its_scores_lose_and_what_was_left_out():
    [mixed] = study_trials(frame(*block(CHANGES), *block(CHANGES, block_id="c", task="cloze"))).mixed_loads.to_dicts()
    assert ", quality the same." in describe_mixed_load(mixed | {"quality_change_worst": 0.0})
    assert f", {MINUS}1.2 % in quality at worst." in describe_mixed_load(mixed | {"quality_change_worst": -0.012})
    assert describe_mixed_load(mixed | {"num_blocks_left_out": 3}).endswith(" 3 more could not be compared.")


def test_where_nothing_can_be_recommended_each_reason_is_said_once():
    tasks = ("a", "b", "c")
    alone = [trial(None, 1.0, task=task, block_id=task) for task in tasks]
    judged = [trial(990, 0.5, task=task, block_id=task, verdicts=["trace_gap"]) for task in tasks]
    unsound = trial(None, 1.0, task="d", block_id="d", verdicts=["trace_gap"])
    failed = trial(990, None, task="d", block_id="d", status="failed", error="out of memory")
    first, second, third, fourth = advice([*alone, *judged, unsound, failed])
    assert first.startswith("No recommendation for 3 of 4 combinations ")
    assert second.startswith("No recommendation for 1 of 4 combinations ")
    assert third == "4 of 8 trials have verdicts (trace_gap) and do not count."
    assert fourth == "1 of 8 trials failed."


def test_where_only_the_default_clock_was_measured_it_is_said_what_it_needs_and_what_is_missing():
    first, second = advice([trial(None, 1.0)])
    assert first == "Only the default clock was measured: 1.00 J/token (qa on small, 4 in flight)."
    assert second.startswith("This run does not show whether another clock needs less energy. List clocks in the sweep")
    assert second.endswith("run it where you may set them; sweep doctor says what that takes on this machine.")
    tasks = {"a": 2.0, "b": 0.5, "c": 1.0}
    rows = [trial(None, joules, task=task, block_id=task) for task, joules in tasks.items()]
    read = trial(None, 9.0, task="r", block_id="r", request_kind="loglikelihood", joules_per_prompt_token=0.002)
    unsound = trial(None, 0.1, task="d", block_id="d", verdicts=["trace_gap"])
    first, _, third = advice([*rows, read, unsound])
    assert first == (
        "Only the default clock was measured in 5 combinations of model, task and load: 0.500 J/token "
        "(b on small, 4 in flight) to 2.00 J/token (a on small, 4 in flight), and 0.00200 J/prompt token (r on small, "
        "4 in flight)."
    )
    assert third == "1 of 5 trials have verdicts (trace_gap) and do not count."


def test_without_a_limit_the_report_says_how_to_set_one():
    assert "--max-slowdown 5%" in describe_options(make_study())
    assert describe_options(make_study(Limits(max_slowdown=0.2))) == ""
    assert describe_options(study_trials(frame(trial(None, 1.0)))) == ""


def test_requests_in_flight_are_compared():
    study = study_trials(
        frame(*block(CHANGES, concurrency=1), *(r | {"joules_per_output_token": r["joules_per_output_token"] / 5}
                                                 for r in block(CHANGES, concurrency=16, block_id="c")))
    )  # fmt: skip
    [comparison] = study.concurrencies.to_dicts()
    text = describe_concurrency(comparison)
    assert text.startswith("qa on small: least joules per token with 16 in flight; with 1 it takes 5.00 times (95 %: ")
    alike = describe_concurrency(comparison | {"ratio": 1.01, "ratio_low": 0.99, "ratio_high": 1.03})
    assert (
        alike
        == "qa on small: 16 and 1 in flight cannot be told apart by joules per token: 1.01 times (95 %: 0.99 to 1.03)."
    )


def test_a_route_is_told_as_a_bound():
    text = describe_route(make_study().routes.row(0, named=True))
    assert text == (
        "qa, 16 in flight: a smaller model does as well as org/large on 70 % (95 %: 63 to 76) of 200 samples; an ideal "
        "router between it and org/small would save 52 % (95 %: 47 to 58) of the energy (1.90 against 4.00 J per "
        "sample, attributed)."
    )


def test_where_the_best_model_is_the_cheapest_there_is_nothing_to_route() -> None:
    row = make_study().routes.row(0, named=True)
    text = describe_route(row | {"reference_model": row["models"][0]})
    assert text.endswith(f"{row['models'][0]} scores best and needs the least energy, so there is nothing to route.")
