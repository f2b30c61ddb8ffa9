"""Which faults happen when: drawn from a seed before anything starts, so that it can be repeated.

What the faults meet is not repeated: processes and the network keep their own time.
"""

import random
from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Final

QUIET_SECONDS: Final = 2.0  # at the start, so that the faults meet work
# Half of the faults come close upon each other, half have the stage to themselves for a while.
CLOSE_SECONDS: Final = (0.2, 1.5)
APART_SECONDS: Final = (3.0, 6.0)
SHORT_PAUSE_SHARE: Final = (0.2, 0.6)  # of the silence after which a session is dead
LONG_PAUSE_SHARE: Final = (1.2, 1.8)
DOWN_SECONDS: Final = (0.3, 2.0)


class FaultKind(StrEnum):
    """What is done to whom."""

    WORKER_KILLED = "worker_killed"
    WORKER_PAUSED_BRIEFLY = "worker_paused_briefly"
    WORKER_PAUSED_BEYOND_ITS_LEASE = "worker_paused_beyond_its_lease"
    DAEMON_KILLED = "daemon_killed"
    DAEMON_RESTARTED = "daemon_restarted"
    DAEMON_PAUSED = "daemon_paused"
    DATABASE_RESTARTED = "database_restarted"
    DATABASE_CRASHED = "database_crashed"
    BACKEND_TERMINATED = "backend_terminated"
    BACKEND_KILLED = "backend_killed"
    CONNECTIONS_CUT = "connections_cut"
    CONNECTIONS_STALLED = "connections_stalled"


OF_WORKERS: Final = frozenset(
    {
        FaultKind.WORKER_KILLED,
        FaultKind.WORKER_PAUSED_BRIEFLY,
        FaultKind.WORKER_PAUSED_BEYOND_ITS_LEASE,
        FaultKind.CONNECTIONS_CUT,
        FaultKind.CONNECTIONS_STALLED,
    }
)
OF_THE_SERVER: Final = frozenset(  # possible only with a PostgreSQL that is ours to stop
    {
        FaultKind.DATABASE_RESTARTED,
        FaultKind.DATABASE_CRASHED,
        FaultKind.BACKEND_KILLED,
    }
)
MOMENTARY: Final = frozenset(
    {
        FaultKind.DAEMON_RESTARTED,
        FaultKind.BACKEND_TERMINATED,
        FaultKind.BACKEND_KILLED,
        FaultKind.CONNECTIONS_CUT,
    }
)
LASTING: Final = {
    FaultKind.WORKER_PAUSED_BRIEFLY: SHORT_PAUSE_SHARE,
    FaultKind.WORKER_PAUSED_BEYOND_ITS_LEASE: LONG_PAUSE_SHARE,
    FaultKind.DAEMON_PAUSED: (SHORT_PAUSE_SHARE[0], LONG_PAUSE_SHARE[1]),
    FaultKind.CONNECTIONS_STALLED: SHORT_PAUSE_SHARE,
}


@dataclass(frozen=True, kw_only=True)
class Fault:
    """One fault; `worker` counts from 1 and is 0 for what befalls the daemon or the database."""

    kind: FaultKind
    at_seconds: float
    lasts_seconds: float
    worker: int

    @property
    def victim(self) -> str:
        """Whom it befalls; nobody suffers two at a time."""
        if self.kind in OF_WORKERS:
            return f"worker {self.worker}"
        return "daemon" if self.kind.startswith("daemon") else "database"


def drawn_faults(
    dice: random.Random,
    *,
    seconds: float,
    workers: int,
    dead_seconds: float,
    kinds: Sequence[FaultKind],
) -> tuple[Fault, ...]:
    """Faults for so many seconds; each kind comes once before any comes again.

    `dead_seconds` is the silence after which a session is given up.
    """
    found: list[Fault] = []
    deck: list[FaultKind] = []
    at_seconds = QUIET_SECONDS
    while at_seconds < seconds:
        if not deck:
            deck = list(kinds)
            dice.shuffle(deck)
        kind = deck.pop()
        share = LASTING.get(kind)
        lasts = dice.uniform(*(share or DOWN_SECONDS)) * (dead_seconds if share else 1.0)
        lasts = 0.0 if kind in MOMENTARY else lasts
        worker = dice.randint(1, workers) if kind in OF_WORKERS else 0
        found.append(Fault(kind=kind, at_seconds=at_seconds, lasts_seconds=lasts, worker=worker))
        at_seconds += dice.uniform(*dice.choice((CLOSE_SECONDS, APART_SECONDS)))
    return tuple(found)
