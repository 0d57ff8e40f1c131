"""A window's energy handed out to its requests, and the rest that belongs to none.

A `Measurement` and the energy of its window enter. An energy for each request leaves, with the method behind it
(docs/measurement.md, "Energy of a request"). Next: the table of requests.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from runner.analysis.energy.account import min_window_s
from runner.analysis.energy.curve import EnergyCurve, energy_curve
from runner.analysis.energy.request_work import RequestWork, StepCosts, find_costs, find_work
from runner.results.measurement import Measurement
from runner.spec.request import Completion

EnergyMethod = Literal["measured", "attributed"]

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]


@dataclass(frozen=True, kw_only=True, slots=True)
class Attribution:
    """Energy of each request, and the rest. The known energies and `unattributed_j` sum to the window's energy."""

    energy_j: Sequence[float | None]
    """[num_requests] in the order of the measurement's completions; None for a failed request, or without a trace."""
    method: Sequence[EnergyMethod | None]
    """[num_requests]"""
    unattributed_j: float | None
    """Energy with no request in flight, and of requests that failed; None without a trace."""


def attribute_energy(measurement: Measurement, energy_j: float | None) -> Attribution:
    """Hand out a window's energy to its requests.

    Args:
        energy_j: the window's energy as its row states it; None where it is unknown.
    """
    completions = measurement.completions
    energies: list[float | None] = [None] * len(completions)
    methods: list[EnergyMethod | None] = [None] * len(completions)
    curve = None if energy_j is None else energy_curve(measurement, energy_j)
    if curve is None:
        return Attribution(energy_j=energies, method=methods, unattributed_j=None)
    shares = _Shares(measurement, curve)
    unattributed_j = shares.unattributed_j
    for place, share_j in zip(shares.work.places, shares.energy_j, strict=True):
        energies[place], methods[place] = float(share_j), "attributed"
    if measurement.identity.load.is_single:
        for group in _find_repeated(completions, min_window_s("trace", measurement.sensors)):
            group_j = curve.between(completions[group[0]].queued_ns or 0, completions[group[-1]].last_token_ns or 0)
            unattributed_j -= group_j - sum(energies[place] or 0.0 for place in group)
            for place in group:
                energies[place], methods[place] = group_j / len(group), "measured"
    # Only rounding brings it below zero.
    return Attribution(energy_j=energies, method=methods, unattributed_j=max(unattributed_j, 0.0))


def _find_repeated(completions: Sequence[Completion], min_s: float) -> list[list[int]]:
    """Return the places of each prompt's repetitions, where together they lasted as long as the shortest window."""
    groups: list[list[int]] = []
    previous = None
    for place in sorted(range(len(completions)), key=lambda place: completions[place].queued_ns or 0):
        request_id = completions[place].request_id
        if request_id != previous:
            groups.append([])
        groups[-1].append(place)
        previous = request_id
    return [group for group in groups if _is_measured([completions[place] for place in group], min_s)]


def _is_measured(group: Sequence[Completion], min_s: float) -> bool:
    first_ns, last_ns = group[0].queued_ns, group[-1].last_token_ns
    if first_ns is None or last_ns is None or (last_ns - first_ns) * 1e-9 < min_s:
        return False
    return all(completion.error is None and not completion.num_cached_tokens for completion in group)


@dataclass(frozen=True)
class _Shares:
    """The energy of each step, split over the requests in it. All sums are running sums over the steps.

    A step's energy is that of the time since the step before it, without the stretches that had no request in flight.
    It is split in proportion to roofline seconds. The fixed ones (weights, host) go evenly to the requests in the step,
    the others to each request by its own arithmetic and traffic.
    """

    measurement: Measurement
    curve: EnergyCurve

    @cached_property
    def work(self) -> RequestWork:
        return find_work(self.measurement)

    @cached_property
    def costs(self) -> StepCosts:
        return find_costs(self.measurement.shape, self.measurement.placement.gpu_name)

    @cached_property
    def energy_j(self) -> Floats:
        """[num_timed_requests]"""
        work, costs = self.work, self.costs
        per_second_w, per_place_j = self._rates
        chunks_j = per_second_w[work.chunk_step] * self._chunk_s + per_place_j[work.chunk_step]
        prefill_j = np.bincount(work.chunk_request, weights=chunks_j, minlength=len(work.places))
        # While a request decodes, its context grows by the same number each step, and so does its cost. Two running
        # sums then hold every request's total.
        index = np.arange(len(per_second_w))
        first, last = work.decode_first_step, work.decode_end_step
        seconds_w = _sum_over(per_second_w, first, last)
        rising_w = _sum_over(per_second_w * index, first, last) - first * seconds_w
        tokens = work.decode_tokens_per_step
        decode_j = tokens * (costs.decode_s(work.decode_context) * seconds_w + costs.context_s * tokens * rising_w)
        places_j = np.minimum(tokens, 1.0) * _sum_over(per_place_j, first, last)
        return np.asarray(prefill_j + decode_j + places_j)

    @cached_property
    def unattributed_j(self) -> float:
        """Energy before the first and after the last step, with no request in flight, and of unknown requests."""
        per_second_w, per_place_j = self._rates
        unknown_s, num_unknown = self._unknown
        handed_out = (self._request_s + unknown_s > 0) & (self._num_requests + num_unknown > 0)
        outside_j = self.curve.total_j - float(self._step_energy_j.sum())
        orphaned_j = float(self._step_energy_j[~handed_out].sum())
        return outside_j + orphaned_j + float((unknown_s * per_second_w + num_unknown * per_place_j).sum())

    @cached_property
    def _step_energy_j(self) -> Floats:
        """[num_steps] energy since the step before, without that of stretches that had no request in flight."""
        edges_ns = np.concatenate(([self.measurement.start_ns], self.work.step_ns))
        return np.asarray(np.diff(self.curve.until(edges_ns)) - np.diff(self._idle_until(edges_ns)))

    def _idle_until(self, time_ns: Ints) -> Floats:
        """Return the energy without a request in flight, from the window's start until some instants, in J."""
        queued_ns, last_ns = self.work.queued_ns, np.maximum.accumulate(self.work.last_ns)
        starts_ns = np.concatenate(([self.measurement.start_ns], last_ns))
        ends_ns = np.maximum(np.concatenate((queued_ns, [self.measurement.end_ns])), starts_ns)
        gaps_j = np.diff(self.curve.until(np.stack((starts_ns, ends_ns))), axis=0)[0]
        whole_j = np.concatenate(([0.0], np.cumsum(gaps_j)))
        gap = np.searchsorted(starts_ns, time_ns, side="right") - 1
        begun_j = self.curve.until(np.minimum(time_ns, ends_ns[gap])) - self.curve.until(starts_ns[gap])
        return np.asarray(whole_j[gap] + begun_j)

    @cached_property
    def _chunk_s(self) -> Floats:
        """[num_chunks] roofline seconds of each chunk of a prompt."""
        return self.costs.prefill_s(self.work.chunk_tokens, self.work.chunk_before, self.work.chunk_logit_rows)

    @cached_property
    def _request_s(self) -> Floats:
        """[num_steps] roofline seconds of the requests' own work."""
        work, costs = self.work, self.costs
        seconds = np.bincount(work.chunk_step, weights=self._chunk_s, minlength=len(work.step_ns))
        return np.asarray(
            seconds + self._num_decode_tokens * costs.decode_s(0.0) + costs.context_s * self._num_decode_context
        )

    @cached_property
    def _num_requests(self) -> Floats:
        """[num_steps] how many requests were in the step."""
        work = self.work
        prefilling = np.bincount(work.chunk_step, minlength=len(work.step_ns))
        return prefilling + self._spread(np.minimum(work.decode_tokens_per_step, 1.0))

    @cached_property
    def _num_decode_tokens(self) -> Floats:
        return self._spread(self.work.decode_tokens_per_step)

    @cached_property
    def _num_decode_context(self) -> Floats:
        """[num_steps] tokens of context of all requests that decode."""
        work, tokens = self.work, self.work.decode_tokens_per_step
        start = self._spread(tokens * (work.decode_context - tokens * work.decode_first_step))
        return start + self._spread(tokens**2) * np.arange(len(work.step_ns))

    @cached_property
    def _unknown(self) -> tuple[Floats, Floats]:
        """[num_steps] roofline seconds and number of requests that the engine counted beyond the known ones.

        Those are requests that failed.
        """
        work, costs = self.work, self.costs
        prefill = np.bincount(work.chunk_step, weights=work.chunk_tokens, minlength=len(work.step_ns))
        more_prefill = np.maximum(work.step_prefill_tokens - prefill, 0.0)
        more_decode = np.maximum(work.step_decode_tokens - self._num_decode_tokens, 0.0)
        with np.errstate(divide="ignore", invalid="ignore"):
            context = np.nan_to_num(self._num_decode_context / self._num_decode_tokens, posinf=0.0)
        seconds = costs.prefill_s(more_prefill, 0.0, 0.0) + more_decode * costs.decode_s(context)
        is_more = more_prefill + more_decode > 1e-6
        num_more = np.maximum(work.step_num_requests - self._num_requests, 0.0)
        return np.where(is_more, seconds, 0.0), np.where(is_more, num_more, 0.0)

    @cached_property
    def _rates(self) -> tuple[Floats, Floats]:
        """[num_steps] joules per roofline second of a request's own work, and joules per request of the fixed part."""
        unknown_s, num_unknown = self._unknown
        own_s, num_requests = self._request_s + unknown_s, self._num_requests + num_unknown
        is_known = (own_s > 0) & (num_requests > 0)
        total_s = np.where(is_known, own_s + self.costs.fixed_s, 1.0)
        per_second_w = np.where(is_known, self._step_energy_j / total_s, 0.0)
        return per_second_w, per_second_w * self.costs.fixed_s / np.where(is_known, num_requests, 1.0)

    def _spread(self, values: Floats) -> Floats:
        """Return [num_steps] sums of a value over the requests that decode in each step."""
        work = self.work
        change = np.zeros(len(work.step_ns) + 1)
        np.add.at(change, work.decode_first_step, values)
        np.add.at(change, work.decode_end_step, -values)
        return np.cumsum(change[:-1])


def _sum_over(values: Floats, first: Ints, last: Ints) -> Floats:
    """Return the sum of values[first:last] for each pair of first and last."""
    running = np.concatenate(([0.0], np.cumsum(values)))
    return np.asarray(running[last] - running[first])
