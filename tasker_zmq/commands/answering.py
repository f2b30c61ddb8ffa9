"""Answers a tick's commands: each by its route, those that ask for tasks all together."""

import difflib
from collections.abc import Sequence

from tasker_zmq.commands import envelope
from tasker_zmq.commands.answered import Answered
from tasker_zmq.commands.context import Desk, Sitting
from tasker_zmq.commands.making import MAKING, make_tasks
from tasker_zmq.commands.plugins import routes
from tasker_zmq.commands.replies import (
    LATER,
    Asked,
    CommandRefusedError,
    refusal,
    refuse,
    success,
)
from tasker_zmq.commands.router import (
    Lane,
    Route,
    command_type,
    elsewhere,
)
from tasker_zmq.commands.submitting import take_submissions
from tasker_zmq.errors import ProtocolError, TaskerError
from tasker_zmq.pipeline.inbox import Letter, ReceivedCommand
from tasker_zmq.pipeline.letters import Answerer
from tasker_zmq.pipeline.tick import Answers
from tasker_zmq.pipeline.turn import Turn
from tasker_zmq.protocol import codec
from tasker_zmq.protocol.limits import WireLimits

Read = tuple[Route, Asked]


def read(received: ReceivedCommand, limits: WireLimits, *, by: Answerer) -> Read | Letter:
    """A command with its route; or, for what cannot be carried out, the letter that says so."""
    try:
        command = received.command or codec.decode_command(received.body, limits)
    except ProtocolError as error:
        refused = CommandRefusedError(error.reason, f"this is no command: {error.detail}")
        return refuse(received.route, None, refused, by=by)
    asked = Asked(received.route, command, received.received_at)
    target = command.metadata.target
    try:
        route = _route(command.command_type)
        envelope.check(command)
        if not route.routed:
            envelope.refuse_routing(command)
    except CommandRefusedError as error:
        return refusal(asked, error, by=by)
    if target is not None and not envelope.is_for(target, by.core_id):
        return elsewhere(target, now=by.at), asked
    return route.chosen(command), asked


def _route(word: str) -> Route:
    route = routes().get(command_type(word))
    if route is None:
        # A word may be a megabyte: no more of it is compared than a name has.
        near = difflib.get_close_matches(word[:60], routes(), n=1, cutoff=0.4)
        raise CommandRefusedError(
            "unknown_command",
            f"no command '{word[:60]}'",
            hint=f"did you mean '{near[0]}'?" if near else "known: " + ", ".join(sorted(routes())),
        )
    return route


class Answering:
    """The engine lane: answers commands inside the tick's transaction."""

    def __init__(self, desk: Desk) -> None:
        self._desk = desk
        self._answered = Answered()

    def __call__(self, turn: Turn, received: Sequence[ReceivedCommand]) -> Answers:
        answers = Answers()
        sitting = Sitting(self._desk, turn, answers, answered=self._answered)
        making: list[Asked] = []
        fresh: dict[str, bytes] = {}
        for each in received:
            found = read(each, self._desk.tuning.limits, by=sitting.answerer)
            if isinstance(found, Letter):
                answers.letters.append(found)
                continue
            route, asked = found
            if command_type(asked.command.command_type) in MAKING:
                making.append(asked)
            elif route.lane in {Lane.ENGINE, Lane.ENGINE_LATER}:
                answers.letters += self._answer(sitting, route, asked, fresh=fresh)
        if fresh:
            turn.changes.then(lambda: self._answered.keep(fresh))
        if making:
            make_tasks(sitting, making)
        if turn.submissions_due:
            take_submissions(sitting)
        return answers

    def _answer(
        self, sitting: Sitting, route: Route, asked: Asked, *, fresh: dict[str, bytes]
    ) -> list[Letter]:
        command_id = asked.command.command_id
        answered = fresh.get(command_id) or self._answered.get(command_id)
        if route.once and answered is not None:
            return [Letter(asked.route, answered)]
        if command_id in sitting.awaited:
            return []  # the answer that comes is the answer to this one too
        try:
            envelope.refuse_overdue(asked, sitting.now)
            reply = route.handle(sitting, asked, envelope.payload_of(asked, route.payload))
        except CommandRefusedError as error:
            return [refusal(asked, error, by=sitting.answerer)]
        if reply is LATER:
            return []
        letter = success(asked, route.reply_type, reply, by=sitting.answerer)
        if route.once:
            fresh[command_id] = letter.body
        return [letter]


def answer_question(route: Route, asked: Asked, at_hand: object, *, by: Answerer) -> Letter:
    """The reader and snapshot lanes: `at_hand` is a connection or a snapshot."""
    try:
        envelope.refuse_overdue(asked, by.at)
        reply = route.handle(at_hand, envelope.payload_of(asked, route.payload))
    except CommandRefusedError as error:
        return refusal(asked, error, by=by)
    except TaskerError as error:
        return refusal(asked, CommandRefusedError("refused", str(error)), by=by)
    return success(asked, route.reply_type, reply, by=by)
