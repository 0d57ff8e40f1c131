"""Plots as pictures for papers."""

import pytest

from runner.analysis.study import study_trials
from runner.display.plots.pictures import write_pictures
from tests.analysis.trial_rows import block, frame
from tests.display.studies import CHANGES


@pytest.mark.parametrize(("picture_format", "magic"), [("png", b"\x89PNG"), ("svg", b"<svg")])
def test_pictures_are_written_for_papers(store, monkeypatch, picture_format, magic):
    study = study_trials(frame(*block(CHANGES)))
    written = write_pictures(store, study, picture_format)
    assert written[:2] == [f"plots/energy-qa-4.{picture_format}", f"plots/latency-qa-4.{picture_format}"]
    assert all((store.directory / name).read_bytes().startswith(magic) for name in written)
