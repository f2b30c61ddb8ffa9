"""InitializeTask and InitializeTasks: the tasks of all such commands of a tick, by the hundred.

Each command is answered by itself: alone with all that is known of its task, several with a line
for each, among which one that cannot be made stands in nobody's way.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from itertools import islice
from typing import Any, Final

import msgspec

from tasker_zmq.commands import envelope
from tasker_zmq.commands.context import Sitting
from tasker_zmq.commands.initializing import (
    Describing,
    Made,
    Origin,
    Wish,
    check,
    create,
    origin_of,
)
from tasker_zmq.commands.replies import (
    Asked,
    CommandRefusedError,
    error_data,
    refusal,
    success,
)
from tasker_zmq.commands.router import INITIALIZE_TASK, INITIALIZE_TASKS, ROUTES, command_type
from tasker_zmq.errors import ProtocolError
from tasker_zmq.protocol import codec
from tasker_zmq.protocol.bulk import (
    STEPS_PER_COMMAND_MAX,
    TASKS_PER_COMMAND_MAX,
    TOO_MANY,
    WORKFLOWS_PER_COMMAND_MAX,
    InitializeTasks,
    TaskAnswer,
    TasksInitialized,
)
from tasker_zmq.protocol.tasks import InitializeTask, TaskRequest

Refused = CommandRefusedError
CREATED_TOGETHER: Final = 250


@dataclass(frozen=True)
class Draft:
    """A command whose tasks may be made; `answer` gets what became of each of its wishes."""

    asked: Asked
    wishes: int
    answer: Callable[[Iterator[Made], Describing], Any]


def make_tasks(sitting: Sitting, asked: Sequence[Asked]) -> None:
    """Create the tasks of all the commands; each gets an answer of its own."""
    letters, drafts, creating = sitting.answers.letters, list[Draft](), _Creating(sitting)
    for each in asked:
        try:
            envelope.refuse_overdue(each, sitting.now)
            drafts.append(_DRAFTS[command_type(each.command.command_type)](creating, each))
        except CommandRefusedError as error:
            letters.append(refusal(each, error, by=sitting.answerer))
    made = iter(creating.made())
    describing = Describing(sitting)
    for draft in drafts:
        reply = draft.answer(islice(made, draft.wishes), describing)
        route = ROUTES[command_type(draft.asked.command.command_type)]
        letters.append(success(draft.asked, route.reply_type, reply, by=sitting.answerer))


@dataclass
class _Creating:
    """Creates so many at a time: PostgreSQL is at it while the next are looked at."""

    sitting: Sitting
    _waiting: list[Wish] = field(default_factory=list)
    _made: list[Made] = field(default_factory=list)

    def add(self, wish: Wish) -> None:
        self._waiting.append(wish)
        if len(self._waiting) >= CREATED_TOGETHER and not self.sitting.desk.state.wary:
            self.made()

    def made(self) -> Sequence[Made]:
        """What became of all that were added, in order."""
        waiting, self._waiting = self._waiting, []
        if waiting:
            self._made += create(self.sitting, waiting)
        return self._made


def _one(creating: _Creating, asked: Asked) -> Draft:
    sitting = creating.sitting
    command = envelope.payload_of(asked, InitializeTask)
    origin = origin_of(sitting, asked, workflow=command.workflow)
    wish = check(sitting, origin, command.task_request)
    creating.add(wish)
    return Draft(asked, 1, lambda made, describing: describing.describe(next(made)))


def _several(creating: _Creating, asked: Asked) -> Draft:
    sitting = creating.sitting
    command = envelope.payload_of(asked, InitializeTasks)
    requests = _requests(command.task_requests)
    if not 1 <= len(requests) <= TASKS_PER_COMMAND_MAX:
        raise CommandRefusedError(
            "invalid",
            f"there are {len(requests)} task_requests; wanted: 1 to {TASKS_PER_COMMAND_MAX}",
        )
    origin = origin_of(sitting, asked, workflow=command.workflow, tasks=len(requests))
    checking = _Checking(sitting, origin)
    found, wishes = list[Wish | Refused](), 0
    for number, each in enumerate(requests):
        checked = checking.check(number, each)
        found.append(checked)
        if isinstance(checked, Wish):
            creating.add(checked)
            wishes += 1
    return Draft(asked, wishes, partial(_lines, found))


def _requests(raw: msgspec.Raw) -> Sequence[TaskRequest | msgspec.Raw]:
    """The requests; as they came if one of them is none, so that it is refused by itself."""
    try:
        return codec.decode_data(raw, tuple[TaskRequest, ...])
    except ProtocolError:
        pass
    try:
        return codec.decode_data(raw, tuple[msgspec.Raw, ...])
    except ProtocolError as error:
        raise CommandRefusedError("invalid", f"task_requests: {error.detail}") from None


class _Checking:
    """The requests of one command, one after the other, within what one command may ask for."""

    def __init__(self, sitting: Sitting, origin: Origin) -> None:
        self._sitting = sitting
        self._origin = origin
        self._namespace = origin.asked.command.metadata.namespace
        self._steps = 0

    def check(self, number: int, given: TaskRequest | msgspec.Raw) -> Wish | Refused:
        try:
            request = envelope.in_namespace(_request(given), self._namespace)
            self._refuse_beyond(request)
            wish = check(self._sitting, self._origin, request, number=number)
        except CommandRefusedError as error:
            return error
        self._steps += wish.task.step_count
        return wish

    def _refuse_beyond(self, request: TaskRequest) -> None:
        known = self._origin.definitions
        if (request.namespace, request.name, request.version) not in known:
            _refuse_more(len(known), WORKFLOWS_PER_COMMAND_MAX, "workflows")
        if self._steps:
            steps = len(self._origin.definition(self._sitting, request).steps)
            _refuse_more(self._steps + steps - 1, STEPS_PER_COMMAND_MAX, "steps")


def _request(given: TaskRequest | msgspec.Raw) -> TaskRequest:
    if isinstance(given, TaskRequest):
        return given
    try:
        return codec.decode_data(given, TaskRequest)
    except ProtocolError as error:
        raise CommandRefusedError("invalid", error.detail) from None


def _refuse_more(before: int, at_most: int, what: str) -> None:
    if before >= at_most:
        raise CommandRefusedError(
            TOO_MANY,
            f"the requests before it have as many {what} as one command may have: {at_most}",
            hint="send it in another command",
        )


def _lines(
    found: Sequence[Wish | Refused], made: Iterator[Made], _describing: Describing
) -> TasksInitialized:
    lines = tuple(
        TaskAnswer(refused=error_data(each)) if isinstance(each, Refused) else _line(next(made))
        for each in found
    )
    refused = sum(line.refused is not None for line in lines)
    duplicates = sum(line.duplicate for line in lines)
    return TasksInitialized(
        created=len(lines) - refused - duplicates,
        duplicates=duplicates,
        refused=refused,
        tasks=lines,
    )


def _line(made: Made) -> TaskAnswer:
    return TaskAnswer(task_id=made.task_id, duplicate=made.duplicate)


_DRAFTS: Final[Mapping[str, Callable[[_Creating, Asked], Draft]]] = {
    INITIALIZE_TASK: _one,
    INITIALIZE_TASKS: _several,
}
MAKING: Final = frozenset(_DRAFTS)
