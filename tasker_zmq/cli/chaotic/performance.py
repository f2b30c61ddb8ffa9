"""One run: load and faults side by side, then none of both, then the end and the verdict."""

import random
from collections import Counter
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from typing import Final

from tasker_zmq.cli.chaotic.faults import OF_THE_SERVER, FaultKind, drawn_faults
from tasker_zmq.cli.chaotic.injection import Injector
from tasker_zmq.cli.chaotic.progress import Progress
from tasker_zmq.cli.chaotic.records import open_tasks, read_records, standing
from tasker_zmq.cli.chaotic.recovery import Recovery, recoveries
from tasker_zmq.cli.chaotic.stage import Plan, Stage, set_up
from tasker_zmq.cli.chaotic.submitting import Submitter
from tasker_zmq.cli.chaotic.verdict import Verdict, judged
from tasker_zmq.cli.chaotic.witness import read_account
from tasker_zmq.cli.demonstration.figures import unsettled_batches
from tasker_zmq.cli.demonstration.interruption import Interruption
from tasker_zmq.cli.demonstration.premises import tell_last_words
from tasker_zmq.cli.demonstration.programs import Program
from tasker_zmq.cli.failures import ExitCode
from tasker_zmq.clock import Clock
from tasker_zmq.errors import UnreachableError

FINISH_SECONDS_MAX: Final = 120.0
HEAL_SECONDS_MAX: Final = 90.0


@dataclass(frozen=True, kw_only=True)
class Show:
    """What is performed, and before whom."""

    plan: Plan
    seed: int
    seconds: float
    tasks_per_second: float
    dead_seconds: float
    clock: Clock
    interruption: Interruption
    progress: Progress


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """What was found."""

    verdict: Verdict
    faults: Mapping[str, int]
    recoveries: Mapping[FaultKind, Recovery]
    finish_seconds: float


@dataclass(kw_only=True)
class _Run:
    """What belongs to the run while it goes on."""

    show: Show
    stage: Stage
    injector: Injector
    submitter: Submitter
    noticed: list[str] = field(default_factory=list)

    def wait(self, over: float) -> None:
        """Faults and load, until the clock says `over`."""
        began = self.show.clock.monotonic()

        def is_over() -> bool:
            elapsed = self.show.clock.monotonic() - began
            self.injector.turn(elapsed_seconds=elapsed)
            self.look_around(f"{elapsed:.0f} of {over:.0f} s")
            return elapsed >= over

        self.show.interruption.wait_until(is_over, seconds_max=over + HEAL_SECONDS_MAX)
        self.injector.waiting.clear()

    def heal(self) -> None:
        """Let the last faults come to their end."""

        def is_healed() -> bool:
            self.injector.turn(elapsed_seconds=0.0)
            self.look_around("the last faults are healed")
            return not self.injector.is_busy

        if not self.show.interruption.wait_until(is_healed, seconds_max=HEAL_SECONDS_MAX):
            raise UnreachableError(f"the last faults were not healed in {HEAL_SECONDS_MAX:.0f} s")

    def finish(self) -> float:
        """Wait until every task has ended; how many seconds that took."""
        began = self.show.clock.monotonic()
        self.submitter.finish()

        def is_finished() -> bool:
            self.look_around("no more faults; waiting for the end of all tasks")
            try:
                with self.stage.database.reading() as connection:
                    return not open_tasks(connection) and not unsettled_batches(connection)
            except UnreachableError:
                return False

        if not self.show.interruption.wait_until(is_finished, seconds_max=FINISH_SECONDS_MAX):
            self.noticed.append(f"not all tasks had ended {FINISH_SECONDS_MAX:.0f} s after faults")
        return self.show.clock.monotonic() - began

    def look_around(self, when: str) -> None:
        """Note who ended by himself, and put another in his place; show how far the load is."""
        for each in self.stage.ended_by_themselves():
            self._note_end(each)
            self._replace(each.name)
        try:
            with self.stage.database.reading() as connection:
                tasks, steps = standing(connection)
            self.show.progress.show(
                f"{when}: {tasks} tasks, {steps} steps complete, "
                f"{len(self.injector.happened)} faults"
            )
        except UnreachableError:
            self.show.progress.show(f"{when}: the database is away")

    def _note_end(self, program: Program) -> None:
        """An end of its own is a violation, unless it was started and found no database."""
        code = program.running.returncode
        sentence = f"{program.name} ended by itself with exit code {code}"
        if code == ExitCode.UNREACHABLE and self.injector.database_was_away:
            self.show.progress.tell(f"{sentence}: it found no database; it is started again")
            return
        self.noticed.append(sentence)
        self.show.progress.tell(sentence)
        tell_last_words([program], kept_by=None, tell=self.show.progress.tell)

    def _replace(self, name: str) -> None:
        if name.startswith("daemon"):
            self.stage.start_daemon()
        else:
            self.stage.start_worker(int(name.partition("-")[2].partition(".")[0]))


def perform(show: Show) -> Outcome:
    """From an empty folder to the verdict; everything that was started is gone afterwards."""
    dice = random.Random(show.seed)  # noqa: S311 - a repeatable choice, no secret
    with ExitStack() as stack:
        stage = stack.enter_context(
            set_up(show.plan, interruption=show.interruption, tell=show.progress.tell)
        )
        submitter = Submitter(
            stage.commands,
            dice=random.Random(dice.getrandbits(64)),  # noqa: S311 - as above
            tasks_per_second=show.tasks_per_second,
            seed=show.seed,
        )
        stack.callback(submitter.give_up)
        faults = drawn_faults(
            dice,
            seconds=show.seconds,
            workers=show.plan.workers,
            dead_seconds=show.dead_seconds,
            kinds=_possible(show.plan),
        )
        injector = Injector(
            stage=stage,
            clock=show.clock,
            dice=random.Random(dice.getrandbits(64)),  # noqa: S311 - as above
            tell=show.progress.tell,
            waiting=list(faults),
        )
        run = _Run(show=show, stage=stage, injector=injector, submitter=submitter)
        submitter.start()
        run.wait(show.seconds)
        run.heal()
        return _found(run, finish_seconds=run.finish())


def _possible(plan: Plan) -> Sequence[FaultKind]:
    ours = plan.database_url is None
    return [each for each in FaultKind if ours or each not in OF_THE_SERVER]


def _found(run: _Run, *, finish_seconds: float) -> Outcome:
    account = read_account(run.stage.witness)
    with run.stage.database.reading() as connection:
        records = read_records(connection)
    happened = run.injector.happened
    verdict = judged(run.submitter.taken, account, records, noticed=run.noticed)
    if not verdict.is_good:
        programs = [run.stage.daemon, *run.stage.workers.values()]
        tell_last_words(programs, kept_by=run.show.plan.kept_by, tell=run.show.progress.tell)
    return Outcome(
        verdict=verdict,
        faults=Counter(each.fault.kind.value for each in happened),
        recoveries=recoveries(happened, account, records.applied_at),
        finish_seconds=finish_seconds,
    )
