"""Recorded traffic: read from files as they are published, and refused with the row that is wrong."""

from pathlib import Path

import polars as pl
import pytest

from runner.spec.load import Replay
from runner.spec.serving.trace import read_trace
from runner.spec.sweep import SweepFileError, parse_sweep
from runner.spec.trial import expand_trials

ROWS = {"arrival_s": [10.0, 10.5, 12.0, 14.0], "num_prompt_tokens": [5, 6, 7, 8], "num_output_tokens": [1, 2, 3, 4]}


def write(folder: Path, rows: dict[str, list[object]], name: str = "trace.csv") -> str:
    path = folder / name
    frame = pl.DataFrame(rows)
    frame.write_parquet(path) if name.endswith(".parquet") else frame.write_csv(path)
    return str(path)


@pytest.mark.parametrize("name", ["trace.csv", "trace.parquet"])
def test_arrivals_count_from_the_first(tmp_path: Path, name: str) -> None:
    trace = read_trace(write(tmp_path, ROWS, name))
    assert trace.arrival_s == (0.0, 0.5, 2.0, 4.0)
    assert (trace.num_prompt_tokens, trace.num_output_tokens) == ((5, 6, 7, 8), (1, 2, 3, 4))
    assert (trace.duration_s, trace.mean_rate_per_s) == (4.0, 1.0)


def test_a_slice_is_scaled_in_time(tmp_path: Path) -> None:
    trace = read_trace(write(tmp_path, ROWS), 0.5, 2.5, 0.5)
    assert trace.arrival_s == (0.0, 0.75)
    assert trace.num_prompt_tokens == (6, 7)
    assert trace.duration_s == 1.0


@pytest.mark.parametrize(
    "names",
    [("Timestamp", "Request tokens", "Response tokens"), ("TIMESTAMP", "ContextTokens", "GeneratedTokens")],
)
def test_columns_of_published_traces_are_known(tmp_path: Path, names: tuple[str, ...]) -> None:
    renamed = dict(zip(names, ROWS.values(), strict=True))
    assert read_trace(write(tmp_path, renamed)).num_output_tokens == (1, 2, 3, 4)


def test_dates_and_times_are_seconds_apart(tmp_path: Path) -> None:
    times = ["2024-05-10 00:00:00.1", "2024-05-10 00:00:01.6", "2024-05-10 00:00:02.0", "2024-05-10 00:01:00.1"]
    trace = read_trace(write(tmp_path, ROWS | {"arrival_s": times}))
    assert trace.arrival_s == pytest.approx((0.0, 1.5, 1.9, 60.0))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"num_prompt_tokens": [5, None, 7, 8]}, "row 2: num_prompt_tokens is empty"),
        ({"arrival_s": [10.0, 9.0, 12.0, 14.0]}, "row 2: arrival_s goes back from 10 to 9"),
        ({"num_output_tokens": [1, 2, 0, 4]}, "row 3: num_output_tokens = 0 is out of range"),
        ({"num_output_tokens": [1.5, 2.0, 3.0, 4.0]}, "num_output_tokens = 1.5 is not a whole number of tokens"),
        ({"arrival_s": ["a", "b", "c", "d"]}, 'arrival_s = "a" is neither a number of seconds nor a date and time'),
    ],
)
def test_a_row_that_is_wrong_is_named(tmp_path: Path, changes: dict[str, list[object]], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        read_trace(write(tmp_path, ROWS | changes))


def test_a_file_that_is_none_or_lacks_a_column_is_named(tmp_path: Path) -> None:
    path = write(tmp_path, {"arrival_s": [1.0, 2.0], "num_prompt_tokens": [3, 4]})
    with pytest.raises(
        ValueError, match="has no column num_output_tokens: its columns are arrival_s, num_prompt_tokens"
    ):
        read_trace(path)
    with pytest.raises(ValueError, match=r'is no file; did you mean ".*trace.csv"'):
        read_trace(str(tmp_path / "trce.csv"))
    with pytest.raises(ValueError, match="has 0 requests from 100 s to 200 s: it lasts 4 s"):
        read_trace(write(tmp_path, ROWS), 100.0, 200.0)


def sweep_of(path: str, **changes: object) -> dict[str, object]:
    task = {"name": "synthetic", "trace": path} | changes
    return {"name": "x", "ramp_s": 1.0, "model": {"id": "shapes/mistral-7b"}, "task": task}


def test_a_trace_is_the_load_of_its_task_and_its_content_makes_the_ids(tmp_path: Path) -> None:
    first = write(tmp_path, ROWS)
    again = write(tmp_path, ROWS, "copy.csv")
    other = write(tmp_path, ROWS | {"num_prompt_tokens": [5, 6, 7, 9]}, "other.csv")
    blocks = [expand_trials(parse_sweep(sweep_of(path)))[0] for path in (first, again, other)]
    assert isinstance(blocks[0].load, Replay)
    assert blocks[0].load.request_rate_per_s == 1.0
    assert blocks[0].task.display_name == "trace-trace"
    assert blocks[0].block_id == blocks[1].block_id != blocks[2].block_id


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"num_requests": 4}, "trace gives the lengths and the number of the requests: leave out num_requests"),
        ({"name": "boolq"}, 'trace belongs to task "synthetic", not to "boolq"'),
        ({"phases": "static_batches"}, "trace leaves no room for phases"),
        ({"trace": "no.csv"}, 'trace = "no.csv" is no file'),
        ({"trace": None, "trace_time_scale": 2.0}, "trace_slice_s and trace_time_scale belong to a trace"),
    ],
)
def test_what_a_trace_says_itself_is_refused(tmp_path: Path, changes: dict[str, object], message: str) -> None:
    document = sweep_of(write(tmp_path, ROWS), **changes)
    with pytest.raises(SweepFileError, match=message):
        parse_sweep(document)


def test_another_load_for_a_trace_and_a_ramp_over_all_of_it_are_refused(tmp_path: Path) -> None:
    document = sweep_of(write(tmp_path, ROWS))
    with pytest.raises(SweepFileError, match="leaves no request of the 4 s that the trace"):
        parse_sweep(document | {"ramp_s": 4.0})
    quiet = sweep_of(write(tmp_path, ROWS, "quiet.csv"), trace_slice_s=[0.0, 3.9])  # its last request comes at 2 s
    with pytest.raises(SweepFileError, match=r"leaves no request of the 3.9 s that the trace"):
        parse_sweep(quiet | {"ramp_s": 2.0})
    override = {"task": "trace-trace", "concurrency": [4]}
    with pytest.raises(SweepFileError, match=r'override\[0\] gives task "trace-trace" another load'):
        parse_sweep(document | {"override": [override]})
