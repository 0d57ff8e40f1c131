"""Every plot of `make_study`, over a run directory with traces and requests."""

import pytest

from runner.display.plots.all_plots import make_plots
from tests.display.studies import make_study, write_run


@pytest.fixture(scope="session")
def store(tmp_path_factory):
    """A run directory with a power trace and the requests of every trial."""
    return write_run(tmp_path_factory.mktemp("run"))


@pytest.fixture(scope="session")
def plots(store):
    return [plot for plots in make_plots(make_study(), store).values() for plot in plots]
