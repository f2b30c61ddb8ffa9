"""Compares a batch's two accounts: the partial results one by one, and the completion.

A pure function of the ledger: neither the order of messages nor their repetition changes it.
"""

from collections import Counter
from collections.abc import Collection, Iterable
from dataclasses import dataclass
from enum import StrEnum
from itertools import pairwise
from typing import Final

from tasker_zmq.domain.ids import SessionId, StepId
from tasker_zmq.domain.results import ResultStatus

GAPS_SHOWN_MAX: Final = 10


class ReconciliationStatus(StrEnum):
    """What became of comparing a batch's two accounts."""

    PENDING = "pending"
    CONSISTENT = "consistent"
    DISCREPANCY = "discrepancy"


class DifferenceKind(StrEnum):
    """In what the two accounts differ."""

    STATUS_DIFFERS = "status_differs"
    COMPLETION_NAMES_UNKNOWN_STEP = "completion_names_unknown_step"
    PARTIAL_NAMES_UNKNOWN_STEP = "partial_names_unknown_step"
    COMPLETION_WITHOUT_PARTIAL = "completion_without_partial"
    PARTIAL_WITHOUT_COMPLETION = "partial_without_completion"
    COUNTS_DIFFER = "counts_differ"
    DIGEST_DIFFERS = "digest_differs"
    SEQUENCE_GAP = "sequence_gap"
    COMPLETION_MISSING = "completion_missing"


@dataclass(frozen=True, kw_only=True)
class PartialAccount:
    """What one partial result in the ledger says."""

    step_id: StepId
    status: ResultStatus
    sequence: int | None = None
    session_id: SessionId | None = None
    output_digest: str | None = None


@dataclass(frozen=True, kw_only=True)
class SummaryAccount:
    """What the completion says about one step; None is a status that no worker we know uses."""

    step_id: StepId
    status: ResultStatus | None
    output_digest: str | None = None


@dataclass(frozen=True, kw_only=True)
class CompletionAccount:
    """What the completion in the ledger says; without summaries only its counts are compared."""

    total_steps: int
    completed_steps: int
    failed_steps: int
    in_progress_steps: int = 0
    summaries: tuple[SummaryAccount, ...] = ()


@dataclass(frozen=True, kw_only=True)
class Difference:
    """One thing in which the accounts differ; at most one of a kind per step (or per batch)."""

    kind: DifferenceKind
    step_id: StepId | None = None
    partial_says: str | None = None
    completion_says: str | None = None


@dataclass(frozen=True, kw_only=True)
class Reconciliation:
    """Consistent, or the differences: by step, then by kind."""

    status: ReconciliationStatus
    differences: tuple[Difference, ...]


@dataclass(frozen=True)
class _Said:
    """Everything that one side says about one step."""

    statuses: frozenset[str]
    digests: frozenset[str]

    @property
    def ended(self) -> bool:
        return bool(self.statuses - {ResultStatus.IN_PROGRESS})

    @property
    def outcome(self) -> str:
        """The outcomes if there is any, else the signs of life; two when it contradicts itself."""
        return ", ".join(sorted(self.statuses - {ResultStatus.IN_PROGRESS} or self.statuses))


def reconcile(
    batch_steps: Collection[StepId],
    partials: Collection[PartialAccount],
    *,
    completion: CompletionAccount | None,
) -> Reconciliation:
    """Compare the accounts of a batch that carried `batch_steps`.

    Ask once the completion is there, or once nobody waits for it any longer (None).
    """
    members = frozenset(batch_steps)
    told = _by_step((each.step_id, each.status, each.output_digest) for each in partials)
    found = [*_gaps(partials)]
    unknown = DifferenceKind.PARTIAL_NAMES_UNKNOWN_STEP
    found += [
        Difference(kind=unknown, step_id=step, partial_says=said.outcome)
        for step, said in told.items()
        if step not in members
    ]
    told = {step: said for step, said in told.items() if step in members}
    if completion is None:
        found.append(Difference(kind=DifferenceKind.COMPLETION_MISSING))
    else:
        summed_up = _by_step(
            (each.step_id, each.status or "unknown", each.output_digest)
            for each in completion.summaries
        )
        if summed_up:
            found += _compare_steps(told, summed_up, members=members)
        counted = {step: said for step, said in (summed_up or told).items() if step in members}
        found += _compare_counts(completion, counted, batch_size=len(members))
    found.sort(key=lambda each: (each.step_id or 0, each.kind))
    status = ReconciliationStatus.DISCREPANCY if found else ReconciliationStatus.CONSISTENT
    return Reconciliation(status=status, differences=tuple(found))


def _by_step(lines: Iterable[tuple[StepId, str, str | None]]) -> dict[StepId, _Said]:
    statuses: dict[StepId, set[str]] = {}
    digests: dict[StepId, set[str]] = {}
    for step, status, digest in lines:
        statuses.setdefault(step, set()).add(str(status))
        digests.setdefault(step, set()).update({digest} if digest else ())
    return {
        step: _Said(frozenset(words), frozenset(digests[step])) for step, words in statuses.items()
    }


def _compare_steps(
    told: dict[StepId, _Said], summed_up: dict[StepId, _Said], *, members: frozenset[StepId]
) -> list[Difference]:
    found = [
        Difference(
            kind=DifferenceKind.PARTIAL_WITHOUT_COMPLETION, step_id=step, partial_says=said.outcome
        )
        for step, said in told.items()
        if said.ended and step not in summed_up
    ]
    for step, summary in summed_up.items():
        if step not in members:
            kind = DifferenceKind.COMPLETION_NAMES_UNKNOWN_STEP
            found.append(Difference(kind=kind, step_id=step, completion_says=summary.outcome))
        else:
            found += _compare_step(step, told.get(step), summary)
    return found


def _compare_step(step: StepId, partial: _Said | None, summary: _Said) -> list[Difference]:
    if partial is None or (summary.ended and not partial.ended):
        return [
            Difference(
                kind=DifferenceKind.COMPLETION_WITHOUT_PARTIAL,
                step_id=step,
                partial_says=partial.outcome if partial else None,
                completion_says=summary.outcome,
            )
        ]
    found = []
    if partial.outcome != summary.outcome or "," in partial.outcome:
        found.append(
            Difference(
                kind=DifferenceKind.STATUS_DIFFERS,
                step_id=step,
                partial_says=partial.outcome,
                completion_says=summary.outcome,
            )
        )
    if partial.digests and summary.digests and partial.digests != summary.digests:
        found.append(
            Difference(
                kind=DifferenceKind.DIGEST_DIFFERS,
                step_id=step,
                partial_says=", ".join(sorted(partial.digests)),
                completion_says=", ".join(sorted(summary.digests)),
            )
        )
    return found


def _compare_counts(
    completion: CompletionAccount, counted: dict[StepId, _Said], *, batch_size: int
) -> list[Difference]:
    """The completion's counts against its own summaries, or against the partials if it has none."""
    outcomes = Counter(said.outcome for said in counted.values())
    expected = (
        batch_size,
        outcomes[ResultStatus.COMPLETED],
        outcomes[ResultStatus.FAILED],
        batch_size - outcomes[ResultStatus.COMPLETED] - outcomes[ResultStatus.FAILED],
    )
    stated = (
        completion.total_steps,
        completion.completed_steps,
        completion.failed_steps,
        completion.in_progress_steps,
    )
    if expected == stated:
        return []
    return [
        Difference(
            kind=DifferenceKind.COUNTS_DIFFER,
            partial_says=_counts(expected),
            completion_says=_counts(stated),
        )
    ]


def _counts(numbers: tuple[int, int, int, int]) -> str:
    total, completed, failed, in_progress = numbers
    return f"{total} steps: {completed} completed, {failed} failed, {in_progress} in progress"


def _gaps(partials: Iterable[PartialAccount]) -> list[Difference]:
    """Numbers that a session left out; those that number nothing (always 1) leave none."""
    seen: dict[str, set[int]] = {}
    for each in partials:
        if each.sequence is not None and each.sequence > 0:
            seen.setdefault(each.session_id or "", set()).add(each.sequence)
    missing = [
        f"{session or 'a nameless session'} lacks {low + 1} to {high - 1}"
        for session in sorted(seen)
        for low, high in pairwise([0, *sorted(seen[session])])
        if high - low > 1
    ]
    if not missing:
        return []
    more = [f"and {len(missing) - GAPS_SHOWN_MAX} more"] if len(missing) > GAPS_SHOWN_MAX else []
    said = "; ".join([*missing[:GAPS_SHOWN_MAX], *more])
    return [Difference(kind=DifferenceKind.SEQUENCE_GAP, partial_says=said)]
