"""What processes have used: seconds of processors and bytes of memory, as /proc tells (Linux)."""

import os
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Self

from tasker_zmq.cli.benchmark.system import System

PROC: Final = Path("/proc")
TICKS_PER_SECOND: Final = os.sysconf("SC_CLK_TCK") if hasattr(os, "sysconf") else 100
# Of /proc/PID/stat, counted behind the name, which may hold spaces and brackets.
PARENT, OWN_TICKS, CHILDRENS_TICKS = 1, slice(11, 13), slice(13, 15)


def _stat(pid: int) -> list[str] | None:
    try:
        told = (PROC / str(pid) / "stat").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return None
    return told.rpartition(")")[2].split()


def _with_descendants(pids: Iterable[int]) -> dict[int, list[str]]:
    """The processes and all below them, with what /proc says of each."""
    everybody = {
        int(each.name): stat
        for each in PROC.iterdir()
        if each.name.isdigit() and (stat := _stat(int(each.name))) is not None
    }
    found: dict[int, list[str]] = {}
    wanted = [each for each in pids if each in everybody]
    while wanted:
        pid = wanted.pop()
        found[pid] = everybody[pid]
        wanted += [each for each, stat in everybody.items() if int(stat[PARENT]) == pid]
    return found


def processor_seconds(pids: Iterable[int]) -> float:
    """User and system time of these processes, all below them, and those that have ended."""
    ticks = sum(
        sum(int(each) for each in (*stat[OWN_TICKS], *stat[CHILDRENS_TICKS]))
        for stat in _with_descendants(pids).values()
    )
    return ticks / TICKS_PER_SECOND


def peak_mib(pids: Iterable[int]) -> float:
    """The most memory that these processes had at a time, MiB, added up."""
    return sum(_kib(pid, "VmHWM:") for pid in pids) / 1_024


def resident_mib(pids: Iterable[int]) -> float:
    """The memory that these processes have now, MiB, added up."""
    return sum(_kib(pid, "VmRSS:") for pid in pids) / 1_024


def _kib(pid: int, name: str) -> int:
    try:
        lines = (PROC / str(pid) / "status").read_text(encoding="utf-8").splitlines()
    except OSError:
        return 0
    return next((int(line.split()[1]) for line in lines if line.startswith(name)), 0)


@dataclass(frozen=True, kw_only=True)
class Costs:
    """Seconds of processors; PostgreSQL's are None where it is another machine's or user's."""

    daemon: float
    workers: float
    postgres: float | None

    @classmethod
    def of(cls, system: System) -> Self:
        """What was used so far."""
        server = system.postmaster
        return cls(
            daemon=processor_seconds([system.daemon]),
            workers=processor_seconds(system.workers),
            postgres=None if server is None else processor_seconds([server]),
        )

    def since(self, before: "Costs", *, steps: int) -> dict[str, float | None]:
        """Seconds per 1,000 steps since `before`."""
        told: dict[str, float | None] = {}
        for name in ("daemon", "workers", "postgres"):
            now, then = getattr(self, name), getattr(before, name)
            told[name] = None if now is None else round((now - then) / steps * 1_000, 3)
        return told
