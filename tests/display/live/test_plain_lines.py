import io
from dataclasses import replace

from runner.display.live.plain_lines import PlainLines
from tests.display import views


def lines_of(*sweep_views) -> list[str]:
    stream = io.StringIO()
    with PlainLines(stream) as plain:
        for view in sweep_views:
            plain.update(view)
    return stream.getvalue().splitlines()


def test_first_line_names_the_sweep_and_the_simulated_gpu():
    first = lines_of(views.STARTING)[0]
    assert first == (
        "[  00:03] clocks-1b: 120 trials, results in runs/clocks-1b; "
        "SIMULATED GPU: seconds and joules come from a physics model, not from a GPU"
    )
    assert "SIMULATED" not in "".join(lines_of(views.TWO_GPUS))
    assert "12 of them done before" in lines_of(views.TWO_GPUS)[0]


def test_each_event_is_printed_once_with_its_own_time():
    first = replace(views.ONE_SIMULATED_GPU, events=views.EVENTS[:4], elapsed_s=656.0)
    later = replace(views.ONE_SIMULATED_GPU, events=views.EVENTS[2:], elapsed_s=657.0)
    text = "\n".join(lines_of(first, first, later))
    assert all(text.count(" ".join(event.message.split())) == 1 for event in views.EVENTS)
    assert "[  00:43] GPU 0 loaded" in text
    assert "[  11:31] warning: boolq" in text
    assert "[  12:07] error: boolq" in text


def test_progress_is_printed_every_ten_seconds_at_most():
    calm = replace(views.EIGHT_GPUS, events=())
    lines = lines_of(*(replace(calm, elapsed_s=quarter / 4) for quarter in range(4 * 35)))
    stamps = [line[:9] for line in lines if " of 1,200 trials" in line]
    assert stamps == ["[  00:10]", "[  00:20]", "[  00:30]", "[  00:34]"]  # the last one on leaving


def test_progress_line_tells_what_the_gpus_do():
    assert lines_of(replace(views.EIGHT_GPUS, events=()))[-1] == (
        "[4:50:20] 731 of 1,200 trials, 1 failed, 3 with verdicts, 9.73 MJ, 3.42 kW, "
        "3 measuring, 1 settling, 1 warming up, 1 closing, 1 lost, 1 idle, about 3 h 04 min left"
    )


def test_an_event_takes_one_line():
    view = replace(views.STARTING, events=(views.event(2, "first\nsecond"),))
    assert "[  00:02] first second" in lines_of(view)
