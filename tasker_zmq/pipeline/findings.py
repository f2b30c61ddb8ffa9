"""What the results of a tick come to, before it is written."""

from dataclasses import dataclass, field

import msgspec

from tasker_zmq.domain.ids import BatchId, SessionId, StepId
from tasker_zmq.pipeline.accounts import Views
from tasker_zmq.protocol.commands import Recorded
from tasker_zmq.protocol.messages import StepError
from tasker_zmq.store.ledger import DeadLetterRow, LedgerRow
from tasker_zmq.store.steps import Move, ReadyStep


@dataclass
class Findings:
    """What the results of a tick come to."""

    views: Views = field(default_factory=Views)
    moves: list[Move] = field(default_factory=list)
    ledger_rows: list[LedgerRow] = field(default_factory=list)
    dead_letters: list[DeadLetterRow] = field(default_factory=list)
    recorded: list[tuple[SessionId, Recorded]] = field(default_factory=list)
    released: list[tuple[SessionId, StepId, BatchId]] = field(default_factory=list)
    completed_batches: list[tuple[SessionId, BatchId]] = field(default_factory=list)
    awaited: set[BatchId] = field(default_factory=set)  # more of them may still come
    # What becomes ready by these moves, and nothing else follows from them; None: ask the rows.
    foreseen: list[ReadyStep] | None = None
    told: bool = True  # by workers; else it follows from their silence


class Said(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """What somebody says of one step; `partial` when it came as a partial result."""

    status: str
    output: bytes = b"null"  # JSON
    error: StepError | None = None
    retryable: bool | None = None
    worker_name: str | None = None
    partial: bool = False
