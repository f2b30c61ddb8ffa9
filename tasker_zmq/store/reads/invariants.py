"""The invariants of docs/PROTOCOL.md that SQL can check: each query finds what breaks one.

A query returns at most LIMIT rows of `subject` and `detail`; no rows, nothing is broken. Each sees
one moment, so that it may be asked while the daemon works.

All but `I10 append-only` read whole tables, none of them row by row through an index: the ledger
(I2, I3 of outcomes, I4, I10 counters), a history (I7 once, I12), steps with their edges (I6,
unfinished parents), else tasks, steps or batches once. Asked together of 1,000,000 complete steps,
with an equally long ledger and three times as many transitions, they took 40 s on two processors,
and I4, the slowest, 9 s.
"""

from dataclasses import dataclass
from typing import Final

from sqlalchemy import Connection, text

from tasker_zmq.store.reads.invariant import Invariant
from tasker_zmq.store.reads.invariants_of_batches import BATCH_INVARIANTS
from tasker_zmq.store.reads.invariants_of_steps import STEP_INVARIANTS
from tasker_zmq.store.reads.invariants_of_tasks import TASK_INVARIANTS
from tasker_zmq.store.reads.invariants_of_transitions import TRANSITION_INVARIANTS

LIMIT: Final = 20
INVARIANTS: Final[tuple[Invariant, ...]] = (
    *STEP_INVARIANTS,
    *TASK_INVARIANTS,
    *BATCH_INVARIANTS,
    *TRANSITION_INVARIANTS,
)


@dataclass(frozen=True)
class Violation:
    """One place in which an invariant does not hold."""

    invariant: str
    subject: str
    detail: str


def check_invariants(connection: Connection) -> list[Violation]:
    """Everything that is broken; empty when nothing is."""
    return [each for invariant in INVARIANTS for each in violations(connection, invariant)]


def violations(connection: Connection, invariant: Invariant) -> list[Violation]:
    """Where one invariant does not hold: some places, at most LIMIT."""
    found = connection.execute(text(f"{invariant.sql}\nLIMIT {LIMIT}"))
    return [Violation(invariant.name, row.subject, row.detail) for row in found]
