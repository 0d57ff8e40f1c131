"""Makes the document of a report: first what to do, then comparisons, figures, all numbers, verdicts and the method.

A `Study` and the manifest enter; a `Document` leaves. `analysis` computes the numbers; `text` has the words.
"""

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from runner.analysis.study import Study
from runner.analysis.window.verdicts import VERDICTS
from runner.display.report.block_sections import default_section, operating_points_section
from runner.display.report.correlation_columns import correlation_columns
from runner.display.report.cost_section import cost_section
from runner.display.report.document import (
    Audience,
    Definitions,
    Document,
    Figures,
    Findings,
    Part,
    Section,
    Sentences,
    Table,
)
from runner.display.report.rate_section import describe_load, rate_section
from runner.display.report.recommendation_columns import mark_recommendations, recommendation_columns
from runner.display.text.advice import (
    ROUTING_MEANING,
    describe_advice,
    describe_concurrency,
    describe_options,
    describe_route,
    is_default_only,
)
from runner.display.text.correlations import describe_correlations
from runner.display.text.figures import FIGURE_TITLES
from runner.display.text.findings import ON_EQUAL_SAMPLES, describe_common_quality, describe_models
from runner.display.text.method import describe_method, describe_provenance
from runner.display.text.names import one_line
from runner.display.text.notes import describe_gaps
from runner.display.text.overview import (
    NOTHING_YET,
    describe_counts,
    describe_gpus,
    describe_import,
    name_run,
)
from runner.display.text.simulated import BY_CONSTRUCTION, SIMULATED_MEANING, SIMULATED_NOTICE

_RECOMMENDATION_NOTE = (
    "Changes are against the default clock. ±: 95 % interval, which allows for the choice among all measured operating "
    "points. energy-delay: the operating point with the least joules per request times latency."
)


def build_document(study: Study, manifest: Mapping[str, Any]) -> Document:
    """Return what is said of a run; sections with nothing to say are left out.

    Args:
        study: what the run's trials say; may have no trial.
        manifest: manifest.json; its sweep names the report.
    """
    sections = (
        _advice(study),
        rate_section(study),
        cost_section(study),
        default_section(study),
        *_comparisons(study),
        *_figures(),
        _input_costs(study),
        operating_points_section(study),
        _problems(study),
        _method(study, manifest),
    )
    return Document(
        title=name_run(manifest),
        notice=_notice(study),
        summary=describe_counts(study.trials),
        overview=tuple(_overview(study, manifest)),
        sections=tuple(section for section in sections if section is not None),
    )


def _overview(study: Study, manifest: Mapping[str, Any]) -> Iterator[Sentences]:
    if study.trials.height:
        yield from (Sentences(texts=(text,), emphasis="quiet") for text in describe_gpus(study.trials))
    if _notice(study):
        yield Sentences(texts=(f"{SIMULATED_NOTICE}: {SIMULATED_MEANING}.",), emphasis="notice")
    if "imported" in manifest:
        yield Sentences(texts=(describe_import(manifest),), emphasis="notice")


def _advice(study: Study) -> Section:
    advice = [*describe_load(study), *describe_advice(study)] if study.trials.height else [NOTHING_YET]
    parts: list[Part] = [Sentences(texts=tuple(advice), emphasis="key")]
    if not set(study.recommendations["conclusion"]) <= {"none"}:
        # A terminal has no room for its sentences, and a row without its evidence would mislead.
        columns, marks = recommendation_columns(study.recommendations), mark_recommendations(study.recommendations)
        parts.append(Table(columns=tuple(columns), row_marks=tuple(marks), layout="cards", audience="page"))
        parts.append(Sentences(texts=(_RECOMMENDATION_NOTE,), emphasis="quiet", audience="page"))
    if options := describe_options(study):
        parts.append(Sentences(texts=(options,), emphasis="quiet"))
    return Section(title="What to do", parts=tuple(parts))


def _comparisons(study: Study) -> Iterator[Section | None]:
    """Yield the comparisons between numbers of requests in flight, between models, and of routers."""
    where = "At the default clock." if is_default_only(study) else "Each model at its own least energy."
    yield _compare(
        "Requests in flight",
        map(describe_concurrency, study.concurrencies.to_dicts()),
        "Each number at its best operating point.",
    )
    yield _compare("Models", map(describe_models, study.models.to_dicts()), where)
    yield _compare("Quality of models", map(describe_common_quality, study.common_quality.to_dicts()), ON_EQUAL_SAMPLES)
    yield _compare("A router between models", map(describe_route, study.routes.to_dicts()), ROUTING_MEANING)


def _compare(title: str, sentences: Iterable[str], note: str) -> Section | None:
    texts = tuple(sentences)
    if not texts:
        return None
    return Section(title=title, parts=(Findings(texts=texts), Sentences(texts=(note,), emphasis="quiet")))


def _figures() -> Iterator[Section]:
    """Yield the places of all figures except those in `_input_costs`, which stand beside their numbers."""
    for kind, title in FIGURE_TITLES.items():
        if kind != "inputs":
            yield Section(title=title, parts=(Figures(figure_kind=kind),))


def _input_costs(study: Study) -> Section | None:
    if not study.correlations["partial"].count():
        return None
    notes = tuple(describe_correlations(study.correlations))
    parts: list[Part] = []
    if columns := correlation_columns(study.correlations):
        parts.append(Table(columns=tuple(columns)))
    if notes:
        parts.append(Sentences(texts=notes, emphasis="quiet"))
    if _notice(study):
        # Without notes only figures follow, which a terminal does not show.
        audience: Audience = "all" if notes else "page"
        parts.append(Sentences(texts=(BY_CONSTRUCTION,), emphasis="warning", audience=audience))
    parts.append(Figures(figure_kind="inputs"))
    return Section(title=FIGURE_TITLES["inputs"], notice=_notice(study), parts=tuple(parts))


def _problems(study: Study) -> Section | None:
    """Return verdicts and failures with their meaning, then what the run does not show."""
    if study.trials.is_empty():
        return None
    verdicts = tuple(
        (_count(num_trials), f"{code}: {VERDICTS.get(code, 'a code that this version does not know')}")
        for code, num_trials in study.verdicts.iter_rows()
    )
    failures = tuple(
        (f"{_count(num_trials)} failed", one_line(error or "no reason recorded"))
        for error, num_trials in study.failures.iter_rows()
    )
    parts: list[Part] = [Definitions(entries=entries) for entries in (verdicts, failures) if entries]
    if not parts:
        parts.append(Sentences(texts=("None: every trial is sound.",)))
    if gaps := tuple(describe_gaps(study)):
        parts.append(Sentences(texts=gaps, emphasis="quiet"))
    return Section(title="Verdicts and failures", parts=tuple(parts))


def _count(num_trials: int) -> str:
    return f"{num_trials:,} trial{'' if num_trials == 1 else 's'}"


def _method(study: Study, manifest: Mapping[str, Any]) -> Section:
    method = describe_method(imported="imported" in manifest, is_default_only=is_default_only(study))
    return Section(
        title="Method",
        parts=(
            Sentences(texts=tuple(method), audience="page"),
            Definitions(entries=tuple(describe_provenance(manifest)), audience="page"),
        ),
    )


def _notice(study: Study) -> str:
    return SIMULATED_NOTICE if study.trials["simulated"].any() else ""
