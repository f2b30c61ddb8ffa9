"""Compares a batch's two accounts: the partial results one by one, and the completion.

A pure function of the ledger: neither the order of messages nor their repetition changes it.
"""

from collections import Counter
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from itertools import pairwise
from typing import Final

import msgspec

from tasker_zmq.domain.ids import StepId
from tasker_zmq.domain.results import ResultStatus

SHOWN_MAX: Final = 10


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


class PartialAccount(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """What one partial result in the ledger says."""

    step_id: StepId
    status: ResultStatus
    sequence: int | None = None
    output_digest: str | None = None


class SummaryAccount(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """What the completion says about one step; None is a status that no worker we know uses."""

    step_id: StepId
    status: ResultStatus | None
    output_digest: str | None = None


class CompletionAccount(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """What the completion in the ledger says; without summaries only its counts are compared."""

    total_steps: int
    completed_steps: int
    failed_steps: int
    in_progress_steps: int = 0
    summaries: tuple[SummaryAccount, ...] = ()


@dataclass
class Accounts:
    """Both accounts of one batch; `given_up`: its worker said that it could not work on it."""

    steps: list[StepId] = field(default_factory=list)
    partials: list[PartialAccount] = field(default_factory=list)
    completions: list[CompletionAccount] = field(default_factory=list)
    given_up: bool = False

    @property
    def unreported(self) -> list[tuple[StepId, ResultStatus]]:
        """What only a completion says: outcomes of steps that no partial result named."""
        told = self._told()
        return [
            (each.step_id, each.status)
            for completion in self.completions
            for each in completion.summaries
            if each.step_id not in told
            and each.step_id in self.steps
            and each.status in (ResultStatus.COMPLETED, ResultStatus.FAILED)
        ]

    def both(self) -> tuple[list[PartialAccount], list[CompletionAccount]]:
        """The two accounts, to be compared; a batch_error stands in both for what was not told."""
        if not self.given_up:
            return self.partials, self.completions
        told = self._told()
        untold = [step_id for step_id in self.steps if step_id not in told]
        told |= {step_id: {ResultStatus.FAILED} for step_id in untold}
        ends = [told[step_id] for step_id in self.steps]
        completed, failed = ends.count({ResultStatus.COMPLETED}), ends.count({ResultStatus.FAILED})
        completion = CompletionAccount(
            total_steps=len(ends),
            completed_steps=completed,
            failed_steps=failed,
            in_progress_steps=len(ends) - completed - failed,
            summaries=tuple(
                SummaryAccount(step_id=step_id, status=status)
                for step_id in self.steps
                for status in told[step_id]
            ),
        )
        more = [PartialAccount(step_id=each, status=ResultStatus.FAILED) for each in untold]
        return [*self.partials, *more], [*self.completions, completion]

    def followed_by(self, later: "Accounts") -> "Accounts":
        """These and what came after them."""
        return Accounts(
            steps=self.steps,
            partials=[*self.partials, *later.partials],
            completions=[*self.completions, *later.completions],
            given_up=self.given_up or later.given_up,
        )

    def _told(self) -> dict[StepId, set[ResultStatus]]:
        """Steps whose end a partial result told, and how they ended."""
        told: dict[StepId, set[ResultStatus]] = {}
        for each in self.partials:
            if each.status is not ResultStatus.IN_PROGRESS:
                told.setdefault(each.step_id, set()).add(each.status)
        return told


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
    completions: Collection[CompletionAccount],
) -> Reconciliation:
    """Compare the accounts of a batch that carried `batch_steps`.

    Ask once a completion is there, or once nobody waits for it any longer. Several completions are
    one account: where they contradict each other, that account says both.
    """
    if _agree_plainly(batch_steps, partials, completions):
        return Reconciliation(status=ReconciliationStatus.CONSISTENT, differences=())
    return compare_in_full(batch_steps, partials, completions=completions)


def compare_in_full(
    batch_steps: Collection[StepId],
    partials: Collection[PartialAccount],
    *,
    completions: Collection[CompletionAccount],
) -> Reconciliation:
    """As `reconcile`, without the glance that spares nearly every batch the comparison."""
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
    if not completions:
        found.append(Difference(kind=DifferenceKind.COMPLETION_MISSING))
    summed_up = _summed_up(completions)
    if summed_up:
        found += _compare_steps(told, summed_up, members=members)
    found += _compare_counts(completions, told, members=members)
    status = ReconciliationStatus.DISCREPANCY if found else ReconciliationStatus.CONSISTENT
    return Reconciliation(status=status, differences=in_order(found))


def _agree_plainly(
    batch_steps: Collection[StepId],
    partials: Collection[PartialAccount],
    completions: Collection[CompletionAccount],
) -> bool:
    """Whether each step has one end, of which one completion tells the same; False: look closer."""
    if len(completions) != 1:
        return False
    (completion,) = completions
    count = len(batch_steps)
    if not count == len(partials) == len(completion.summaries) == completion.total_steps:
        return False
    told = {each.step_id: (each.status, each.output_digest) for each in partials}
    if len(told) < count or told.keys() != set(batch_steps):
        return False
    if told != {each.step_id: (each.status, each.output_digest) for each in completion.summaries}:
        return False
    statuses = [each.status for each in partials]
    ends = statuses.count(ResultStatus.COMPLETED), statuses.count(ResultStatus.FAILED)
    if ends != (completion.completed_steps, completion.failed_steps) or sum(ends) < count:
        return False
    return not completion.in_progress_steps and not _gaps(partials)


def in_order(differences: Iterable[Difference]) -> tuple[Difference, ...]:
    """By step, then by kind; those of the whole batch first."""
    return tuple(sorted(differences, key=lambda each: (each.step_id or 0, each.kind)))


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
                partial_says=_some(sorted(partial.digests)),
                completion_says=_some(sorted(summary.digests)),
            )
        )
    return found


def _summed_up(completions: Iterable[CompletionAccount]) -> dict[StepId, _Said]:
    return _by_step(
        (each.step_id, each.status or "unknown", each.output_digest)
        for completion in completions
        for each in completion.summaries
    )


def _compare_counts(
    completions: Iterable[CompletionAccount],
    told: dict[StepId, _Said],
    *,
    members: frozenset[StepId],
) -> list[Difference]:
    """A completion's counts against its own summaries, or against the partials if it has none."""
    wrong = set()
    for completion in completions:
        own = {s: said for s, said in _summed_up([completion]).items() if s in members}
        counted = own if completion.summaries else told
        outcomes = Counter(said.outcome for said in counted.values())
        completed, failed = outcomes[ResultStatus.COMPLETED], outcomes[ResultStatus.FAILED]
        expected = (len(members), completed, failed, len(members) - completed - failed)
        stated = (
            completion.total_steps,
            completion.completed_steps,
            completion.failed_steps,
            completion.in_progress_steps,
        )
        if expected != stated:
            wrong.add((_counts(expected), _counts(stated)))
    if not wrong:
        return []
    return [
        Difference(
            kind=DifferenceKind.COUNTS_DIFFER,
            partial_says=_some(sorted({expected for expected, _ in wrong})),
            completion_says=_some(sorted({stated for _, stated in wrong})),
        )
    ]


def _counts(numbers: tuple[int, int, int, int]) -> str:
    total, completed, failed, in_progress = numbers
    return f"{total} steps: {completed} completed, {failed} failed, {in_progress} in progress"


def _gaps(partials: Iterable[PartialAccount]) -> list[Difference]:
    """Numbers that were left out; workers that number nothing (always 1) leave none.

    A worker goes on counting when a new session of its takes the batch over.
    """
    seen = sorted({each.sequence for each in partials if each.sequence and each.sequence > 0})
    missing = [f"{low + 1} to {high - 1}" for low, high in pairwise([0, *seen]) if high - low > 1]
    if not missing:
        return []
    said = f"of its numbers up to {seen[-1]} there lack {_some(missing)}"
    return [Difference(kind=DifferenceKind.SEQUENCE_GAP, partial_says=said)]


def _some(words: Sequence[str]) -> str:
    """Some of them and how many more: whoever says ever new things cannot make this long."""
    more = len(words) - SHOWN_MAX
    return "; ".join([*words[:SHOWN_MAX], *([f"and {more} more"] if more > 0 else [])])
