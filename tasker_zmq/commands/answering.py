"""Answers a tick's commands: each by its route, InitializeTask all together."""

import difflib
from collections.abc import Sequence

from tasker_zmq.commands.answered import Answered
from tasker_zmq.commands.context import Desk, Sitting
from tasker_zmq.commands.initializing import initialize_tasks
from tasker_zmq.commands.replies import Asked, CommandRefusedError, refusal, refuse, success
from tasker_zmq.commands.router import INITIALIZE_TASK, ROUTES, Lane, Route, command_type
from tasker_zmq.commands.submitting import take_submissions
from tasker_zmq.errors import ProtocolError, TaskerError
from tasker_zmq.pipeline.inbox import Letter, ReceivedCommand
from tasker_zmq.pipeline.tick import Answers
from tasker_zmq.pipeline.turn import Turn
from tasker_zmq.protocol import codec
from tasker_zmq.protocol.limits import WireLimits


def read(
    received: ReceivedCommand, limits: WireLimits, *, core_id: str
) -> tuple[Route, Asked] | Letter:
    """A command with its route; or, for bytes that make none, the letter that says so."""
    try:
        command = codec.decode_command(received.body, limits)
    except ProtocolError as error:
        refused = CommandRefusedError(error.reason, f"this is no command: {error.detail}")
        return refuse(received.route, None, refused, core_id=core_id)
    route = ROUTES.get(command_type(command.command_type))
    if route is None:
        # A word may be a megabyte: no more of it is compared than a name has.
        near = difflib.get_close_matches(command.command_type[:60], ROUTES, n=1, cutoff=0.4)
        refused = CommandRefusedError(
            "unknown_command",
            f"no command '{command.command_type[:60]}'",
            hint=f"did you mean '{near[0]}'?" if near else "known: " + ", ".join(sorted(ROUTES)),
        )
        return refuse(received.route, command, refused, core_id=core_id)
    return route, Asked(received.route, command)


class Answering:
    """The engine lane: answers commands inside the tick's transaction."""

    def __init__(self, desk: Desk) -> None:
        self._desk = desk
        self._answered = Answered()

    def __call__(self, turn: Turn, received: Sequence[ReceivedCommand]) -> Answers:
        answers = Answers()
        sitting = Sitting(self._desk, turn, answers)
        core_id = self._desk.state.core_id
        to_initialize: list[Asked] = []
        fresh: dict[str, bytes] = {}
        for each in received:
            found = read(each, self._desk.tuning.limits, core_id=core_id)
            if isinstance(found, Letter):
                answers.letters.append(found)
                continue
            route, asked = found
            if command_type(asked.command.command_type) == INITIALIZE_TASK:
                to_initialize.append(asked)
            elif route.lane in {Lane.ENGINE, Lane.ENGINE_LATER}:
                answers.letters.append(self._answer(sitting, route, asked, fresh=fresh))
        if fresh:
            turn.changes.then(lambda: self._answered.keep(fresh))
        if to_initialize:
            initialize_tasks(sitting, to_initialize)
        if turn.submissions_due:
            take_submissions(sitting)
        return answers

    def _answer(
        self, sitting: Sitting, route: Route, asked: Asked, *, fresh: dict[str, bytes]
    ) -> Letter:
        core_id, command_id = self._desk.state.core_id, asked.command.command_id
        answered = fresh.get(command_id) or self._answered.get(command_id)
        if route.once and answered is not None:
            return Letter(asked.route, answered)
        try:
            data = codec.decode_data(asked.command.payload.data, route.payload)
            reply = route.handle(sitting, asked, data)
        except CommandRefusedError as error:
            return refusal(asked, error, core_id=core_id)
        except ProtocolError as error:
            return refusal(asked, CommandRefusedError("invalid", error.detail), core_id=core_id)
        letter = success(asked, route.reply_type, reply, core_id=core_id)
        if route.once:
            fresh[command_id] = letter.body
        return letter


def answer_question(route: Route, asked: Asked, at_hand: object, *, core_id: str) -> Letter:
    """The reader and snapshot lanes: `at_hand` is a connection or a snapshot."""
    try:
        data = codec.decode_data(asked.command.payload.data, route.payload)
        reply = route.handle(at_hand, data)
    except CommandRefusedError as error:
        return refusal(asked, error, core_id=core_id)
    except ProtocolError as error:
        return refusal(asked, CommandRefusedError("invalid", error.detail), core_id=core_id)
    except TaskerError as error:
        return refusal(asked, CommandRefusedError("refused", str(error)), core_id=core_id)
    return success(asked, route.reply_type, reply, core_id=core_id)
