"""Options and arguments that several commands share."""

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer


class ClocksMode(StrEnum):
    """Whether clocks may be set."""

    APPLY = "apply"
    READ_ONLY = "read-only"


class EngineKind(StrEnum):
    """What generates."""

    VLLM = "vllm"
    SIMULATED = "simulated"


class PictureFormat(StrEnum):
    """How plots are written."""

    PNG = "png"
    SVG = "svg"


class TableMarkup(StrEnum):
    """How tables for papers are written."""

    LATEX = "latex"
    MARKDOWN = "markdown"


SweepFile = Annotated[Path, typer.Argument(metavar="FILE", help="A sweep file, e.g. sweeps/demo.toml.")]
RunDirectory = Annotated[Path, typer.Argument(metavar="RUN", help="A run directory, e.g. runs/demo.")]
GpuOption = Annotated[
    str,
    typer.Option(
        "--gpu",
        metavar="GPUS",
        help="all, auto (all, or sim where there is none), indices or UUIDs (0,2), sim, or sim:h200x4.",
    ),
]
OutOption = Annotated[
    Path | None, typer.Option("--out", metavar="DIR", help="Run directory; runs/<name of the sweep> unless given.")
]
ClocksOption = Annotated[
    ClocksMode | None,
    typer.Option(
        "--clocks",
        help="read-only sets nothing and measures at the default clock. Default: as the sweep file says, "
        "else apply. SWEEP_CLOCKS=read-only allows read-only alone.",
    ),
]
EngineOption = Annotated[
    EngineKind,
    typer.Option("--engine", help="simulated: the physics model alone, in virtual time; no tokens and no quality."),
]
AddressOption = Annotated[
    str | None,
    typer.Option("--address", metavar="RAY", help="A Ray cluster to run on, HOST:PORT; RAY_ADDRESS unless given."),
]
ServerOption = Annotated[
    str | None,
    typer.Option(
        "--server",
        metavar="URL",
        help="Measure a server that runs on this host, http://127.0.0.1:8000 (vLLM, SGLang, TensorRT-LLM, llama.cpp). "
        "It is never stopped or changed. The clocks of its GPU are set. OPENAI_API_KEY holds its key.",
    ),
]
ServerGpusOption = Annotated[
    str | None,
    typer.Option(
        "--server-gpus",
        metavar="GPUS",
        help="The GPU that the server computes on, by index or UUID, where it cannot be found by its processes.",
    ),
]
JsonOption = Annotated[bool, typer.Option("--json", help="Print JSON for a script instead of tables.")]
PriceOption = Annotated[
    str | None,
    typer.Option(
        "--price", metavar="PRICE", help='What a kWh costs: 0.25/kWh or "0.25 EUR/kWh". The report counts it.'
    ),
]
CarbonOption = Annotated[
    str | None, typer.Option("--carbon", metavar="GRAMS", help='CO2 of a kWh: "380 g/kWh" or "0.38 kg/kWh".')
]
PueOption = Annotated[
    str | None,
    typer.Option("--pue", metavar="1.2", help="The data centre's energy over that of its computers, 1 or more."),
]
