from pathlib import Path

import pytest

from runner.results.published import PublishedFileError, read_published
from runner.results.tables import TRIALS

GRID = Path(__file__).parents[2] / "reference" / "rtx5090_clock_grid.csv"
SMALL = """sm_clock_mhz,output_tokens_per_s,mean_power_w
2000,100,300
1000,80,160
"""


def read(tmp_path, text):
    (tmp_path / "grid.csv").write_text(text)
    return read_published(tmp_path / "grid.csv")


def test_lines_become_rows_like_any_other(tmp_path):
    trials = read(tmp_path, SMALL)
    assert dict(trials.schema) == TRIALS
    assert trials["joules_per_output_token"].to_list() == [3.0, 2.0]
    assert set(trials["status"]) == {"ok"}
    assert set(trials["energy_source"]) == {"imported"}
    assert not trials["simulated"].any()
    assert trials["trial_id"].n_unique() == 2
    for unknown in ("energy_j", "start_ns", "duration_s", "latency_s_p50", "concurrency", "quality"):
        assert trials[unknown].null_count() == 2, unknown


def test_a_spreadsheets_byte_order_mark_spaces_and_empty_lines_are_no_mistakes(tmp_path):
    text = "\ufeff" + SMALL.replace(",", " , ").replace("\n1000", "\n\n , ,\n1000").replace("\n", "\r\n")
    assert read(tmp_path, text)["joules_per_output_token"].to_list() == [3.0, 2.0]
    assert read(tmp_path, SMALL.replace("w\n", "w,quality_higher_is_better\n").replace("160", "160,False"))[
        "quality_higher_is_better"
    ].to_list() == [True, False]


def test_a_file_that_is_no_text_is_explained(tmp_path):
    (tmp_path / "grid.csv").write_text(SMALL, encoding="utf-16")
    with pytest.raises(PublishedFileError, match=r"grid\.csv is not text in UTF-8 \(byte 0\)"):
        read_published(tmp_path / "grid.csv")
    with pytest.raises(PublishedFileError, match="cannot be read: Is a directory"):
        read_published(tmp_path)


def test_the_highest_clocks_stand_for_a_default_that_is_not_named(tmp_path):
    trials = read(tmp_path, SMALL)
    assert trials["sm_clock_mhz_requested"].to_list() == [None, 1000]
    assert trials["sm_clock_mhz"].to_list() == [2000.0, 1000.0]


def test_a_line_without_clocks_is_the_default(tmp_path):
    trials = read(tmp_path, SMALL + ",105,310\n")
    assert trials["sm_clock_mhz_requested"].to_list() == [2000, 1000, None]
    assert trials["sm_clock_mhz"].to_list() == [2000.0, 1000.0, None]


def test_lines_of_one_point_are_its_repeats(tmp_path):
    trials = read(tmp_path, SMALL + "1000,81,161\n2000,101,301\n")
    assert trials["repeat"].to_list() == [0, 0, 1, 1]
    assert trials["sm_clock_mhz_requested"].to_list() == [None, 1000, 1000, None]


def test_optional_columns_are_taken(tmp_path):
    trials = read(
        tmp_path,
        "model,task,concurrency,gpu_name,mem_clock_mhz,output_tokens_per_s,joules_per_output_token,quality,tpot_s_p95\n"
        "m,qa,8,A100,1593,100,2.5,0.5,0.02\nm,qa,16,A100,1593,150,2.0,0,\n",
    )
    assert trials["concurrency"].to_list() == [8, 16]
    assert trials["mean_power_w"].to_list() == [250.0, 300.0]
    assert trials["quality"].to_list() == [0.5, 0.0]
    assert trials["tpot_s_p95"].to_list() == [0.02, None]
    assert trials["block_id"].n_unique() == 2
    assert set(trials["gpu_name"]) == {"A100"}


def test_throughputs_of_several_tasks_stand_side_by_side():
    trials = read_published(GRID)
    assert trials.height == 2 * 28
    assert dict(trials["task"].value_counts().rows()) == {"narrative": 28, "code": 28}
    row = trials.filter(task="narrative", sm_clock_mhz=2122.0, mem_clock_mhz=14001.0).row(0, named=True)
    assert row["joules_per_output_token"] == pytest.approx(313.63 / 602.20)
    default = trials.filter(task="code", sm_clock_mhz=3090.0, mem_clock_mhz=14001.0).row(0, named=True)
    assert (default["sm_clock_mhz_requested"], default["mem_clock_mhz_requested"]) == (None, None)


@pytest.mark.parametrize(
    ("wrong", "words"),
    [
        ("sm_clock_mhz,output_tokens_per_s,mean_power_w\n", ["has no line of numbers"]),
        (SMALL.replace("sm_clock_mhz", "sm_clok_mhz"), ["'sm_clok_mhz' is not known", 'did you mean "sm_clock_mhz"']),
        (SMALL.replace("sm_clock_mhz", "model"), ["neither a column sm_clock_mhz nor mem_clock_mhz"]),
        (SMALL.replace("output_tokens_per_s", "concurrency"), ["no column output_tokens_per_s"]),
        (SMALL.replace("mean_power_w", "concurrency"), ["neither a column mean_power_w nor joules_per_output_token"]),
        (SMALL.replace("160", "-160"), ["line 3: mean_power_w = '-160'", "a number greater than 0"]),
        (SMALL.replace("80", "fast"), ["line 3: output_tokens_per_s = 'fast'"]),
        (SMALL.replace("80", ""), ["line 3: output_tokens_per_s is empty: a throughput is needed"]),
        (SMALL.replace("160", ""), ["line 3: mean_power_w and joules_per_output_token are empty: one of them"]),
        (SMALL.replace(",80,160", ""), ["line 3: output_tokens_per_s is empty"]),
        (SMALL.replace("160", "160,7"), ["is not CSV: line 3 has more cells than the 3 that the first line names"]),
        (SMALL.replace("1000", "1000.5"), ["line 3: sm_clock_mhz = '1000.5'", "give a whole number greater than 0"]),
        (SMALL.replace("mean_power_w", "sm_clock_mhz"), ["column 'sm_clock_mhz' stands twice"]),
        (SMALL.replace(",", ";"), ["separated by ';': commas are needed"]),
        (SMALL + "1000,80,160\n", ["lines 3 and 4 are the same"]),
        (SMALL.replace("mean_power_w", "mean_power_w,quality_higher_is_better").replace("300", "300,yes").replace(
            "160", "160,"), ["line 2: quality_higher_is_better = 'yes'", "true or false"]),
        ("task,sm_clock_mhz,a_output_tokens_per_s,b_output_tokens_per_s,mean_power_w\nx,1,2,3,4\n",
         ["name the tasks themselves"]),
        ("", ["is empty"]),
    ],
)  # fmt: skip
def test_a_wrong_file_is_explained(tmp_path, wrong, words):
    with pytest.raises(PublishedFileError) as error:
        read(tmp_path, wrong)
    assert "grid.csv" in str(error.value)
    assert all(word in str(error.value) for word in words), error.value
