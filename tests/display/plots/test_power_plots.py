"""Power over time."""


def test_power_shows_the_default_and_the_recommended_point_with_their_phases(plots):
    power = [plot for plot in plots if plot.name.startswith("power")]
    assert [plot.title.rsplit(", ", 1)[1] for plot in power] == ["the default clock", "990 MHz"] * 2
    bands = power[0].data["bands"]
    assert bands[0] == {"phase": "window", "start_s": 0.0, "end_s": 10.0}
    assert [band["phase"] for band in bands[1:]] == ["prefill", "decode"]
    assert len(power[0].data["readings"]) <= 600
