"""The plots of a run as pictures for papers, dark on white.

A `Study` and the run directory enter; files leave.
"""

import json
from typing import Literal

import vl_convert

from runner.analysis.study import Study
from runner.display.plots.all_plots import make_plots
from runner.results.atomic_files import write_atomically
from runner.results.run_directory import RunStore

PictureFormat = Literal["png", "svg"]
PICTURES = "plots"
"""The folder of a run directory that holds them."""
_PIXELS_PER_POINT = 3.0
"""300 dots per inch at 3.2 inches, a column of a paper."""


def write_pictures(store: RunStore, study: Study, picture_format: PictureFormat) -> list[str]:
    """Write every plot into the run directory; returns the files' names."""
    written = []
    for plot in (plot for plots in make_plots(study, store).values() for plot in plots):
        specification = json.dumps(plot.for_file())
        path = store.directory / PICTURES / f"{plot.name}.{picture_format}"
        if picture_format == "png":
            write_atomically(path, vl_convert.vegalite_to_png(specification, scale=_PIXELS_PER_POINT))
        else:
            write_atomically(path, vl_convert.vegalite_to_svg(specification).encode())
        written.append(f"{PICTURES}/{path.name}")
    return written
