"""Deliberate bugs, each planted in the real code while it runs: the simulation must find them all.

A simulation that finds nothing may be blind; what it finds here shows what it sees. Each bug says
which weather it needs: `rates` and `fixed` go to `options.draw`.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from tasker_zmq.daemon.engine import EngineThread
from tasker_zmq.domain import results
from tasker_zmq.domain.breaker import Breaker
from tasker_zmq.pipeline import (
    accounts,
    advance,
    delivery,
    discover,
    dispatch,
    recover,
    tick,
)
from tasker_zmq.pipeline.apply import Applying
from tasker_zmq.pipeline.contents import ContentsOfTurn
from tasker_zmq.pipeline.state import Session
from tasker_zmq.pipeline.turn import Turn
from tasker_zmq.protocol import topics
from tasker_zmq.store import batches as batch_store
from tasker_zmq.store import ledger as ledger_store
from tasker_zmq.store import workers as worker_store
from tasker_zmq.worker import corelink, durable_outbox, runtime
from tasker_zmq.worker import outbox as worker_outbox
from tasker_zmq.worker.batches import BatchesInHand
from tests.simulation import defects
from tests.simulation.defects import Plant, replaced, rewritten, swapped
from tests.simulation.options import Legacy


@dataclass(frozen=True)
class Planted:
    """One bug; `fixed` are options that must be so for it to matter."""

    name: str
    plant: Plant
    rates: Mapping[str, float] = field(default_factory=dict)
    fixed: Mapping[str, Any] = field(default_factory=dict)


CRASHES = {"worker_crash": 0.15, "slow": 0.5, "crash_before_send": 0.2}
LOSSES = {"loss": 0.2}
FAILS = {"failures": 0.4}
ONCE = {"once": 0.9, "worker_crash": 0.15, "slow": 0.5}
COMMITS = {"unknown_commit": 0.08}
TOLD_LATE = {"crash_before_send": 0.15}
ON_DISK = {"durable": tuple(f"w{number}" for number in range(1, 9))}
PAUSES = {"worker_pause": 0.15, "slow": 0.5}
SEVERAL = {"cores": 2}
SLEEPERS = {"core_pause": 0.05, "core_twin": 0.9}
GONE = {"core_gone": 0.05, "slow": 0.5}

PLANTED: tuple[Planted, ...] = (
    Planted("acknowledge before commit", swapped(EngineThread, "_run_tick", defects.early(False))),
    Planted("publish before commit", swapped(EngineThread, "_run_tick", defects.early(True))),
    Planted(
        "memory changes before the commit",
        swapped(tick.Tick, "run", defects.changes_at_once),
        {"conflict": 0.1},
    ),
    Planted(
        "no current-batch check",
        swapped(results, "decide", defects.facts(in_current_batch=True)),
        {**PAUSES, "twins": 0.2},
    ),
    Planted("no credit check", swapped(Session, "room", defects.room), {}, {"tasks": 8}),
    Planted(
        "resend without bound", swapped(worker_outbox.MemoryOutbox, "sent", defects.at_once), LOSSES
    ),
    Planted(
        "deliver again without bound",
        replaced(delivery, "DELIVERIES_MAX", 1_000),
        {"deaf": 0.5},
        {"stormy_seconds": 25.0},
    ),
    Planted(
        "a subscription that nobody sees is nobody's business",
        replaced(corelink, "UNSEEN_BEATS_MAX", 10**9),
        {"half_open": 0.3},
    ),
    Planted(
        "no ledger row for duplicates",
        swapped(Applying, "run", defects.without_duplicates),
        {"twins": 0.2},
    ),
    Planted(
        "a retry loses its backoff",
        swapped(results, "next_attempt_at", lambda _: lambda *_a, failed_at, **_b: failed_at),
        FAILS,
    ),
    Planted(
        "a lost step is not given back",
        swapped(recover.Recovering, "lose", defects.nothing_given_back),
        CRASHES,
    ),
    Planted("a loss is charged", swapped(recover, "decide_loss", defects.loss(lost=0)), CRASHES),
    Planted(
        "a loss is taken for never started",
        swapped(recover, "decide_loss", defects.loss(lost=0, uncharged=1)),
        CRASHES,
    ),
    Planted("losses without limit", swapped(recover, "decide_loss", defects.no_limit), CRASHES),
    Planted(
        "a late success is dropped",
        swapped(results, "_not_in_progress", defects.late_dropped),
        PAUSES,
    ),
    Planted(
        "a child is ready before all parents",
        rewritten(
            {
                "apply_results": ("WHERE unfinished_parents = 0 AND state", "WHERE state"),
                "load_viable_steps": ("AND s.unfinished_parents = 0", ""),
                "start_batches": (" AND s.unfinished_parents = 0", ""),
            }
        ),
    ),
    Planted(
        "the wrong parent's result",
        swapped(ContentsOfTurn, "previous_results", defects.rotated),
    ),
    Planted(
        "two sessions share a topic",
        replaced(topics, "steps_topic", lambda session_id: f"steps.{session_id[:8]} ".encode()),
    ),
    Planted("suspects get work", defects.to_suspects, {**PAUSES, "partition": 0.1}),
    Planted(
        "work before the subscription",
        swapped(Session, "room", defects.room_regardless("subscribed")),
        {"slow_joiner": 0.9},
    ),
    Planted(
        "work for other handlers",
        replaced(Session, "can_run", lambda *_: True),
    ),
    Planted(
        "a forgotten deadline", swapped(dispatch.Dispatching, "_remember", defects.no_deadline)
    ),
    Planted(
        "reconciliation never runs", replaced(tick._Pass, "_reconcile", defects.nothing), LOSSES
    ),
    Planted("an unknown commit is ignored", replaced(discover, "look_up", lambda _: []), COMMITS),
    Planted(
        "a start is confirmed and not written down",
        swapped(batch_store, "confirm_starts", defects.confirmed_by_word),
        ONCE,
    ),
    Planted(
        "a worker starts without asking",
        swapped(runtime, "understand", defects.without_asking),
        ONCE,
    ),
    Planted("a counter is off by one", swapped(accounts.BatchView, "count", defects.off_by_one)),
    Planted("no dead letter", replaced(ledger_store, "write_dead_letters", defects.nothing), FAILS),
    Planted("a transition is missing", swapped(accounts, "rows", defects.last_arrow_missing)),
    Planted(
        "a duplicate is applied", swapped(results, "decide", defects.again_applied), {"twins": 0.3}
    ),
    Planted("retries never fall due", replaced(recover, "due_retries", lambda _: []), FAILS),
    Planted(
        "an open breaker lets nothing through",
        replaced(Breaker, "lets_one", lambda *_, **__: False),
        {"failures": 0.7},
    ),
    Planted(
        "nobody looks for work",
        replaced(discover, "sweep", defects.only_seems_to_sweep),
        {"core_crash": 0.06},
    ),
    Planted(
        "a worker forgets its batches",
        replaced(BatchesInHand, "knows", lambda *_: False),
        {"twins": 0.3},
    ),
    Planted("credit does not come back", replaced(Session, "release", defects.nothing)),
    Planted(
        "blocked tasks never end", replaced(advance, "end_blocked_tasks", defects.nothing), FAILS
    ),
    Planted(
        "publications are all number one", swapped(Turn, "next_publication", defects.number_one)
    ),
    Planted(
        "one try too many",
        swapped(
            results, "decide_failure", defects.facts(retry_limit=lambda step: step.retry_limit + 1)
        ),
        FAILS,
    ),
    Planted(
        "one try too few",
        swapped(
            results,
            "decide_failure",
            defects.facts(retry_limit=lambda step: max(0, step.retry_limit - 1)),
        ),
        FAILS,
    ),
    Planted(
        "what must not run twice is tried again",
        swapped(results, "decide_failure", defects.facts(retryable=True, retry_limit=lambda _: 2)),
        {"once": 0.9, "failures": 0.4},
    ),
    Planted(
        "a late success counts as a failure too",
        replaced(accounts.BatchView, "take_back_failure", defects.nothing),
        {"worker_pause": 0.3, "partition": 0.3, "slow": 0.8},
    ),
    Planted(
        "a successor forgets the outbox",
        swapped(durable_outbox, "_take", defects.forgetful),
        TOLD_LATE,
        ON_DISK,
    ),
    Planted(
        "what a legacy worker lost is not given back",
        swapped(recover.Recovering, "time_out", defects.not_for_legacy),
        LOSSES,
        {"legacy": Legacy.NEEDED},
    ),
    Planted(
        "an old epoch writes on",
        replaced(worker_store, "renew_core", lambda *_, **__: True),
        SLEEPERS,
        SEVERAL,
    ),
    Planted(
        "who is succeeded is not shut out",
        replaced(worker_store, "fence", lambda *_, **__: False),
        SLEEPERS,
        SEVERAL,
    ),
    Planted(
        "a takeover before the lease is over",
        rewritten(
            {
                "claim_tasks": (
                    "c.lease_expires_at > CAST(:now AS timestamptz)",
                    "c.lease_expires_at > CAST(:now AS timestamptz) + interval '8 s'",
                )
            }
        ),
        {"core_pause": 0.03},
        SEVERAL,
    ),
    Planted(
        "a takeover leaves the batches behind",
        replaced(batch_store, "take_over", lambda *_, **__: []),
        GONE,
        SEVERAL,
    ),
    Planted(
        "adoption leaves a batch with its former core",
        rewritten({"adopt_batches": (", core_id = :core_id", "")}),
        {"registrations": 0.15, "slow": 0.5},
        SEVERAL,
    ),
    Planted(
        "what a worker brings along has no deadline",
        replaced(discover, "watch_adopted", defects.nothing),
        {"registrations": 0.15, "slow": 0.5},
        SEVERAL,
    ),
    Planted("owners are not told, and do not look", defects.owners_in_the_dark, {}, SEVERAL),
    Planted(
        "a stopped core keeps its work",
        replaced(worker_store, "end_core", defects.kept_for_ever),
        {"core_drain": 0.05},
        SEVERAL,
    ),
)
