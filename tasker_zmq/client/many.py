"""Many tasks at once: packed into commands, a few of which are on their way at a time."""

from collections import deque
from collections.abc import Generator, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field
from itertools import islice
from typing import Any, Final

import msgspec

from tasker_zmq.client.link import NOT_FOUND, Answer, Link, refusal_of
from tasker_zmq.errors import NotFoundError, RefusedError, TaskerError, UnreachableError
from tasker_zmq.protocol import codec
from tasker_zmq.protocol.bulk import TOO_MANY, InitializeTasks, ShortRequest, TasksInitialized
from tasker_zmq.protocol.commands import NULL, ErrorData

TASKS_MAX: Final = 500  # in one command
BYTES_MAX: Final = 256 << 10  # of a command, unless its first task alone is larger
UNDER_WAY_MAX: Final = 4
NAMED_MAX: Final = 3

Refusal = NotFoundError | RefusedError


class SomeRefusedError(TaskerError):
    """The daemon made some tasks and refused others; all of them were asked for.

    `made` has the tasks and `refused` the reasons, each by the place that its context had, from 0.
    """

    def __init__(self, made: Mapping[int, Any], refused: Mapping[int, Refusal]) -> None:
        first = [f"[{place}] {error}" for place, error in islice(refused.items(), NAMED_MAX)]
        more = f"; and {len(refused) - NAMED_MAX} more" if len(refused) > NAMED_MAX else ""
        super().__init__(f"{len(refused)} tasks were refused: {'; '.join(first)}{more}")
        self.made = made
        self.refused = refused


@dataclass(frozen=True, slots=True)
class Packed:
    """A request as it is sent, and which one it is."""

    place: int
    body: bytes


@dataclass(frozen=True, slots=True)
class MadeTask:
    """A task that is there now; `duplicate`: it was before."""

    task_id: int
    duplicate: bool


@dataclass
class Outcome:
    """What became of the requests, by their places."""

    made: dict[int, MadeTask] = field(default_factory=dict)
    refused: dict[int, Refusal] = field(default_factory=dict)


def pack(requests: Iterable[ShortRequest]) -> Iterator[Packed]:
    """Requests in the form in which they are sent."""
    for place, each in enumerate(requests):
        yield Packed(place, codec.encode(each))


def command(packed: Sequence[Packed], workflow: msgspec.Raw = NULL) -> InitializeTasks:
    """One command for these."""
    requests = b"[%b]" % b",".join([each.body for each in packed])
    return InitializeTasks(task_requests=msgspec.Raw(requests), workflow=workflow)


def take(waiting: Iterator[Packed], held: deque[Packed], at_most: int = TASKS_MAX) -> list[Packed]:
    """As many as go into the next command; what was taken out and does not fit is `held`."""
    taken: list[Packed] = []
    size = 0
    while len(taken) < at_most:
        each = held.popleft() if held else next(waiting, None)
        if each is None:
            break
        if taken and size + len(each.body) > BYTES_MAX:
            held.appendleft(each)
            break
        taken.append(each)
        size += len(each.body) + 1
    return taken


class Submission:
    """One call of `submit_many`, over one link."""

    def __init__(
        self,
        link: Link,
        *,
        timeout_seconds: float,
        workflow: msgspec.Raw = NULL,
        worker: str | None = None,
    ) -> None:
        self._link = link
        self._timeout_seconds = timeout_seconds
        self._workflow = workflow
        self._worker = worker
        self._at_most = TASKS_MAX
        self._outcome = Outcome()
        self._again: deque[Packed] = deque()

    def run(self, requests: Iterable[ShortRequest]) -> Generator[Future[Any], Any, Outcome]:
        """Ask for all; raises UnreachableError when the daemon does not answer any more."""
        waiting, under_way = pack(requests), deque[tuple[list[Packed], Future[Answer]]]()
        while True:
            while len(under_way) < UNDER_WAY_MAX and (
                packed := take(waiting, self._again, self._at_most)
            ):
                under_way.append((packed, _settled(self._ask(packed))))
            if not under_way:
                return self._outcome
            packed, settled = under_way.popleft()
            self._note(packed, (yield settled))

    def _ask(self, packed: Sequence[Packed]) -> Answer:
        return self._link.ask(
            "InitializeTasks",
            command(packed, self._workflow),
            timeout_seconds=self._timeout_seconds,
            worker=self._worker,
        )

    def _note(self, packed: Sequence[Packed], answer: Answer) -> None:
        error = answer.exception()
        if isinstance(error, NotFoundError | RefusedError):  # the whole command
            self._outcome.refused.update((each.place, error) for each in packed)
            return
        if error is not None:
            if isinstance(error, UnreachableError):
                error.add_note(f"{len(self._outcome.made)} of the tasks were made before that")
            raise error
        told = codec.decode_data(answer.result(), TasksInitialized)
        too_many: list[Packed] = []
        for each, line in zip(packed, told.tasks, strict=True):
            if line.task_id is not None:
                self._outcome.made[each.place] = MadeTask(line.task_id, line.duplicate)
            elif line.refused and line.refused.code == TOO_MANY and len(packed) > 1:
                too_many.append(each)
            else:
                self._outcome.refused[each.place] = refusal_of(line.refused or _NOTHING_SAID)
        if too_many:  # what one command may ask for was less than was sent
            self._again.extendleft(reversed(too_many))
            self._at_most = max(1, len(packed) - len(too_many))


_NOTHING_SAID: Final = ErrorData(code=NOT_FOUND, message="the daemon did not say what became of it")


def _settled(answer: Answer) -> Future[Answer]:
    """Done when the answer is, whatever that is: never an error."""
    settled: Future[Answer] = Future()
    answer.add_done_callback(settled.set_result)
    return settled
