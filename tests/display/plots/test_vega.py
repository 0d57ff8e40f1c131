"""The code that draws plots is bundled once and kept."""

from importlib.metadata import version

import pytest
import vl_convert

from runner.display.plots import vega


def test_the_code_that_draws_is_bundled_once(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    bundle = vega.load_vega()
    assert "window.vegaEmbed" in bundle[-200:]
    assert "</script" not in bundle
    monkeypatch.setattr(vl_convert, "javascript_bundle", lambda _: pytest.fail("bundled twice"))
    assert vega.load_vega() == bundle
    assert (tmp_path / "joulesweep" / f"vega-{version('vl-convert-python')}.js").exists()


def test_a_home_that_cannot_be_written_is_no_obstacle(tmp_path, monkeypatch):
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    monkeypatch.setattr(vl_convert, "javascript_bundle", lambda _: "bundle")
    assert vega.load_vega() == "bundle"
