"""What is wrong when a bug is planted: each takes the original, and gives what stands for it."""

from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from dataclasses import replace
from datetime import datetime, timedelta
from functools import partial
from typing import Any
from unittest import mock

import msgspec

from tasker_zmq.domain.results import StepDecision, Verdict
from tasker_zmq.domain.states import StepState
from tasker_zmq.pipeline import discover, neighbours, recover
from tasker_zmq.pipeline.inbox import Outbox
from tasker_zmq.pipeline.state import LEGACY_SESSION, Session
from tasker_zmq.pipeline.turn import Turn
from tasker_zmq.store import statements
from tasker_zmq.store import workers as worker_store

Plant = Callable[[], AbstractContextManager[object]]


def swapped(owner: object, name: str, make: Callable[[Any], Any]) -> Plant:
    """Puts what `make` gives for the original into its place."""
    original = vars(owner)[name] if isinstance(owner, type) else getattr(owner, name)
    return lambda: mock.patch.object(owner, name, make(original))


def replaced(owner: object, name: str, new: object) -> Plant:
    return lambda: mock.patch.object(owner, name, new)


def rewritten(changes: Mapping[str, tuple[str, str]]) -> Plant:
    """Statements of the store with mistakes in them, prepared by connections made from now on."""

    @contextmanager
    def plant() -> Iterator[None]:
        original = statements.source

        def source(name: str) -> str:
            text = original(name)
            if name not in changes:
                return text
            old, new = changes[name]
            if old not in text:
                raise AssertionError(f"{name}.sql has no '{old}' any more")
            return text.replace(old, new)

        with mock.patch.object(statements, "source", source):
            statements._numbered.cache_clear()
            try:
                yield
            finally:
                statements._numbered.cache_clear()

    return plant


def nothing(*_: Any, **__: Any) -> None:
    return None


def early(publications: bool) -> Callable[[Any], Any]:  # noqa: FBT001 - one of two
    def make(_: Any) -> Any:
        def run_tick(engine: Any, inbox: Any) -> None:
            now = engine._clock.now()
            with engine._transaction() as connection:
                ticked = engine._parts.tick.run(connection, inbox, now)
                early, late = Outbox(), Outbox()
                (early if publications else late).publications = ticked.outbox.publications
                (late if publications else early).letters = ticked.outbox.letters
                if early:
                    engine._parts.send(early)
            ticked.changes.carry_out()
            engine._parts.send(late)

        return run_tick

    return make


def changes_at_once(original: Any) -> Any:
    def run(self: Any, connection: Any, inbox: Any, now: Any) -> Any:
        ticked = original(self, connection, inbox, now)
        ticked.changes.carry_out()
        return ticked

    return run


def facts(**wrong: Any) -> Callable[[Any], Any]:
    """`decide` told something untrue of the step."""

    def make(original: Any) -> Any:
        def decide(outcome: Any, step: Any, **more: Any) -> Any:
            told = {
                name: value(step) if callable(value) else value for name, value in wrong.items()
            }
            return original(outcome, replace(step, **told), **more)

        return decide

    return make


def again_applied(original: Any) -> Any:
    def decide(*given: Any, **more: Any) -> Any:
        found = original(*given, **more)
        if found.verdict is Verdict.DUPLICATE:
            return replace(found, verdict=Verdict.APPLIED)
        return found

    return decide


def late_dropped(original: Any) -> Any:
    def not_in_progress(step: Any, status: Any) -> Any:
        if step.unheard and step.state is not StepState.COMPLETE:
            return StepDecision(verdict=Verdict.LATE, reason="too late")
        return original(step, status)

    return not_in_progress


def loss(**wrong: Any) -> Callable[[Any], Any]:
    def make(original: Any) -> Any:
        def decide_loss(start: Any, **more: Any) -> Any:
            found = original(start, **more)
            return replace(found, **wrong) if found.lost else found

        return decide_loss

    return make


def no_limit(original: Any) -> Any:
    def decide_loss(start: Any, **more: Any) -> Any:
        return original(start, **{**more, "losses_max": 1_000})

    return decide_loss


def nothing_given_back(original: Any) -> Any:
    def lose(self: Any, *given: Any, **more: Any) -> Any:
        findings = original(self, *given, **more)
        findings.moves.clear()
        findings.dead_letters.clear()
        return findings

    return lose


def without_duplicates(original: Any) -> Any:
    def run(self: Any, received: Any) -> Any:
        findings = original(self, received)
        findings.ledger_rows = [
            row for row in findings.ledger_rows if row.verdict != Verdict.DUPLICATE
        ]
        return findings

    return run


def rotated(original: Any) -> Any:
    def previous_results(self: Any, task_id: Any, parents: Any) -> Any:
        found = original(self, task_id, parents)
        if found is None or len(parents) < 2:
            return found
        told = msgspec.json.decode(found, type=dict[str, msgspec.Raw])
        values = list(told.values())
        wrong = dict(zip(told, values[1:] + values[:1], strict=True))
        return msgspec.json.encode(wrong).decode()

    return previous_results


def room(_original: Any) -> Any:
    def room_anyhow(session: Session, _now: datetime, *, ended: int = 0) -> int:
        ready = session.subscribed and not session.suspect and not session.draining
        return 1_000 if ready else 0

    return room_anyhow


def room_regardless(name: str) -> Callable[[Any], Any]:
    """Room though `name` says that there is none."""

    def make(original: Any) -> Any:
        def room_anyhow(session: Session, now: datetime, *, ended: int = 0) -> int:
            kept = getattr(session, name)
            setattr(session, name, name == "subscribed")
            try:
                return int(original(session, now, ended=ended))
            finally:
                setattr(session, name, kept)

        return room_anyhow

    return make


def to_suspects() -> AbstractContextManager[object]:
    @contextmanager
    def both() -> Iterator[None]:
        room = room_regardless("suspect")(vars(Session)["room"])
        with (
            mock.patch.object(Session, "room", room),
            mock.patch.object(recover, "suspect_sessions", later_suspects),
        ):
            yield

    return both()


suspects = recover.suspect_sessions


def later_suspects(turn: Turn) -> list[Any]:
    """Found as ever, but not passed over in the tick that finds them."""
    return suspects(turn)


def off_by_one(original: Any) -> Any:
    def count(self: Any, **more: Any) -> None:
        original(self, **more)
        if more["partial"] and self.partials > 1:
            self.heard["partials"] = self.heard.get("partials", 0) - 1

    return count


def last_arrow_missing(original: Any) -> Any:
    def rows(views: Any) -> Any:
        told, arrows = original(views)
        return told, arrows[:-1]

    return rows


def no_deadline(original: Any) -> Any:
    def remember(self: Any, plans: Any) -> None:
        original(self, plans)
        for plan in plans:
            self._turn.state.deadlines.drop(plan.batch.batch_id)

    return remember


def confirmed_by_word(_: Any) -> Any:
    def confirm_starts(_: Any, __: Any, step_ids: Any, **___: Any) -> list[Any]:
        return list(step_ids)

    return confirm_starts


def without_asking(original: Any) -> Any:
    def understand(*given: Any, **more: Any) -> Any:
        batch = original(*given, **more)
        if getattr(batch, "confirm_start", False):
            return msgspec.structs.replace(batch, confirm_start=False)
        return batch

    return understand


def at_once(_: Any) -> Any:
    def sent(self: Any, key: Any, *, now: float) -> None:
        entry = self._kept.get(key)
        if entry is not None:
            self._keep(entry._replace(sent=entry.sent + 1, due=now))

    return sent


def forgetful(original: Any) -> Any:
    def take(*given: Any) -> list[Any]:
        original(*given)
        return []

    return take


def not_for_legacy(original: Any) -> Any:
    def time_out(self: Any, batch_ids: Any) -> Any:
        findings = original(self, batch_ids)
        lost = {
            step_id
            for batch in findings.views.batches.values()
            if batch.session_id == LEGACY_SESSION
            for step_id in batch.batch_step_ids
        }
        findings.moves = [each for each in findings.moves if each.step_id not in lost]
        findings.dead_letters = [each for each in findings.dead_letters if each.step_id not in lost]
        return findings

    return time_out


def only_seems_to_sweep(turn: Turn) -> list[Any]:
    """Else it would be time to sweep in every tick."""
    later = turn.now + timedelta(seconds=turn.tuning.sweep_seconds)
    turn.changes.then(partial(setattr, turn.state, "next_sweep_at", later))
    return []


@contextmanager
def owners_in_the_dark() -> Iterator[None]:
    with (
        mock.patch.object(neighbours, "tell", nothing),
        mock.patch.object(discover, "_sweep_beside_others", nothing),
    ):
        yield


def kept_for_ever(connection: Any, core_id: Any, epoch: Any, *, now: Any) -> None:
    worker_store.renew_core(connection, core_id, epoch, now=now, lease_seconds=100_000)


def number_one(_: Any) -> Any:
    return lambda *_: 1
