"""How long it took from a fault to the first new result of the work that it had hit.

Of a worker's death or long silence the time runs from the fault to the first step that was in its
hands and then ended elsewhere; for all else from the moment at which what was ended, stopped or cut
was there again, to the first result that was recorded (the daemon, the database) or to the
worker's next step that ended (a short pause, its connections). Where another fault fell into that
time, it says nothing about this one and is left out.
"""

from bisect import bisect_right
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from tasker_zmq.cli.chaotic.faults import OF_WORKERS, FaultKind
from tasker_zmq.cli.chaotic.injection import Happening
from tasker_zmq.cli.chaotic.witness import WitnessAccount

GONE: Final = (FaultKind.WORKER_KILLED, FaultKind.WORKER_PAUSED_BEYOND_ITS_LEASE)


@dataclass(frozen=True, kw_only=True)
class Recovery:
    """Of one kind of fault; ones that hit no work, or were not alone, are not counted."""

    p50_seconds: float
    max_seconds: float
    count: int


def recoveries(
    happened: Sequence[Happening], account: WitnessAccount, applied_at: Sequence[float]
) -> Mapping[FaultKind, Recovery]:
    """By kind; `applied_at` are the times of recorded results, in order."""
    found: dict[FaultKind, list[float]] = defaultdict(list)
    for each in happened:
        seconds = _seconds(each, account, applied_at)
        if seconds is not None and _was_alone(each, seconds, happened):
            found[each.fault.kind].append(seconds)
    return {
        kind: Recovery(
            p50_seconds=sorted(times)[(len(times) - 1) // 2],
            max_seconds=max(times),
            count=len(times),
        )
        for kind, times in sorted(found.items())
    }


def _seconds(
    happening: Happening, account: WitnessAccount, applied_at: Sequence[float]
) -> float | None:
    if happening.healed_at is None:
        return None
    if happening.fault.kind in GONE:
        return _elsewhere(happening, account)
    if happening.fault.kind in OF_WORKERS:
        ends = sorted(
            each.ended_at
            for each in account.runs
            if each.ended_at is not None and each.process_id == happening.process_id
        )
    else:
        ends = list(applied_at)
    place = bisect_right(ends, happening.healed_at)
    return ends[place] - happening.healed_at if place < len(ends) else None


def _elsewhere(happening: Happening, account: WitnessAccount) -> float | None:
    began = happening.began_at
    affected = {
        each.step_id
        for each in account.runs
        if each.process_id == happening.process_id
        and each.started_at <= began
        and (each.ended_at is None or each.ended_at > began)
    }
    ends = [
        each.ended_at
        for each in account.runs
        if each.step_id in affected
        and each.process_id != happening.process_id
        and each.started_at > began
        and each.ended_at is not None
    ]
    return min(ends) - began if ends else None


def _was_alone(happening: Happening, seconds: float, happened: Sequence[Happening]) -> bool:
    """Whether no other fault lasted or began between this one and its recovery.

    What befell another worker does not count: there are more of them.
    """
    gone = happening.fault.kind in GONE
    recovered_at = (happening.began_at if gone else happening.healed_at or 0.0) + seconds
    return not any(
        other is not happening
        and (not other.fault.worker or other.fault.worker == happening.fault.worker)
        and other.began_at < recovered_at
        and (other.healed_at is None or other.healed_at > happening.began_at)
        for other in happened
    )
