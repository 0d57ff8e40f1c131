"""The JavaScript that draws plots, bundled into one text that needs no network."""

import os
from contextlib import suppress
from importlib.metadata import version
from pathlib import Path

import vl_convert

from runner.results.atomic_files import write_atomically

_EXPORTED = "window.vegaEmbed = vegaEmbed;"


def load_vega() -> str:
    """Return Vega, Vega-Lite and their embedding, about 900 kB; they set `window.vegaEmbed`.

    Bundling takes seconds, so that the result is kept in the user's cache.
    """
    home = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    kept = home / "joulesweep" / f"vega-{version('vl-convert-python')}.js"
    with suppress(OSError):
        return kept.read_text(encoding="utf-8")
    bundle: str = vl_convert.javascript_bundle(_EXPORTED)
    with suppress(OSError):  # a home that cannot be written costs those seconds every time
        write_atomically(kept, bundle.encode())
    return bundle
