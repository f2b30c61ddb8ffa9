"""What the rounds came to: medians, ratios to ours, the two bars. No clock, no process, no rows."""

import statistics
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

OURS: Final = "tasker-zmq"
DBOS: Final = "dbos"
PGQUEUER: Final = "pgqueuer"
THROUGHPUT: Final = "throughput"
LATENCY: Final = "latency"
THROUGHPUT_BAR: Final = 10.0
LATENCY_BAR: Final = 0.5
KEEPS: Final[Mapping[str, str]] = {
    OURS: "every step, result, transition and attempt, and both accounts of each batch, for good",
    DBOS: "each workflow with its input and result, and the result of each step, for good",
    PGQUEUER: "a line of log for each change of a job; the job and its payload go when it is done",
}
UNITS: Final[Mapping[str, str]] = {THROUGHPUT: "steps_per_second", LATENCY: "latency_p50_ms"}
HEADING: Final = (
    f"{'':<12}{'steps/s':>10}{'of ours':>9}{'p50 ms':>9}{'of ours':>9}{'rows/step':>11}   keeps"
)


@dataclass(frozen=True, kw_only=True)
class Measured:
    """One contender's figure for one workload in one round: steps a second, or p50 in ms.

    `rows_per_step` is what lies in each of its tables afterwards, by the steps that it has run.
    """

    contender: str
    workload: str
    figure: float
    rows_per_step: Mapping[str, float] = field(default_factory=dict)
    more: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class Line:
    """The median of the rounds; `of_ours` is None where ours was not measured."""

    contender: str
    workload: str
    median: float
    rounds: Sequence[float]
    of_ours: float | None
    rows_per_step: Mapping[str, float]
    more: Mapping[str, float]


@dataclass(frozen=True, kw_only=True)
class Bar:
    """What was promised, and how it came out; `found` is ours by DBOS's."""

    wanted: str
    found: float
    met: bool


def rate(told: Sequence[Mapping[str, float]]) -> float:
    """Steps a second of processes that ran side by side: from the first start to the last end."""
    seconds = max(each["ended"] for each in told) - min(each["started"] for each in told)
    return sum(each["steps"] for each in told) / seconds


def lines(measured: Iterable[Measured]) -> list[Line]:
    """One for each contender and workload, in the order in which they were first measured."""
    groups: dict[tuple[str, str], list[Measured]] = {}
    for each in measured:
        groups.setdefault((each.contender, each.workload), []).append(each)
    medians = {
        key: statistics.median(each.figure for each in group) for key, group in groups.items()
    }
    found = []
    for (contender, workload), group in groups.items():
        median, ours = medians[contender, workload], medians.get((OURS, workload))
        found.append(
            Line(
                contender=contender,
                workload=workload,
                median=median,
                rounds=[each.figure for each in group],
                of_ours=None if ours is None else median / ours,
                rows_per_step=group[-1].rows_per_step,
                more={
                    name: statistics.median(each.more[name] for each in group)
                    for name in group[-1].more
                },
            )
        )
    return found


def bars(found: Iterable[Line]) -> list[Bar]:
    """Ours beside DBOS; none for a workload that one of the two was not measured at."""
    of_ours = {each.workload: each.of_ours for each in found if each.contender == DBOS}
    told = []
    if part := of_ours.get(THROUGHPUT):
        wanted = f"throughput >= {THROUGHPUT_BAR:g} x DBOS"
        told.append(Bar(wanted=wanted, found=1 / part, met=1 / part >= THROUGHPUT_BAR))
    if part := of_ours.get(LATENCY):
        wanted = f"latency <= {LATENCY_BAR:g} x DBOS"
        told.append(Bar(wanted=wanted, found=1 / part, met=1 / part <= LATENCY_BAR))
    return told


def as_object(line: Line, config: Mapping[str, Any]) -> dict[str, Any]:
    """One line of JSON."""
    return {
        "peer": line.contender,
        "workload": line.workload,
        UNITS[line.workload]: round(line.median, 2),
        "of_ours": None if line.of_ours is None else round(line.of_ours, 3),
        "rounds": [round(each, 2) for each in line.rounds],
        "rows_per_step": line.rows_per_step,
        "keeps": KEEPS[line.contender],
        **line.more,
        "config": config,
    }


def table(found: Sequence[Line]) -> list[str]:
    """A row for each contender, below it the rows that it leaves for each step, and the bars."""
    told = [HEADING]
    for contender in dict.fromkeys(each.contender for each in found):
        by_workload = {each.workload: each for each in found if each.contender == contender}
        cells = [
            cell
            for workload, form in ((THROUGHPUT, ",.0f"), (LATENCY, ".1f"))
            for cell in _cells(by_workload.get(workload), form)
        ]
        rows = by_workload[THROUGHPUT].rows_per_step if THROUGHPUT in by_workload else {}
        kept = f"{sum(rows.values()):.2f}" if rows else ""
        told.append(
            f"{contender:<12}{cells[0]:>10}{cells[1]:>9}{cells[2]:>9}{cells[3]:>9}{kept:>11}"
            f"   {KEEPS[contender]}"
        )
        told += [f"  {name}: {value:g}" for name, value in rows.items()]
        for each in by_workload.values():
            told += [
                f"  {name.replace('_', ' ')}: {value:.1f}" for name, value in each.more.items()
            ]
    for bar in bars(found):
        told.append(f"{bar.wanted}: {'met' if bar.met else 'MISSED'}, {bar.found:.2f} x")
    return told


def _cells(line: Line | None, form: str) -> tuple[str, str]:
    if line is None:
        return "", ""
    return format(line.median, form), "" if line.of_ours is None else f"{line.of_ours:.2f}"
