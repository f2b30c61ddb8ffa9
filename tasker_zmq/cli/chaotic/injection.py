"""Carries faults out: each is a script that stops at what it waits for, so that they overlap."""

import os
import random
import signal
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Final

import psycopg
from sqlalchemy import make_url

from tasker_zmq.cli.chaotic.faults import Fault, FaultKind
from tasker_zmq.cli.chaotic.stage import PURPOSE, Stage
from tasker_zmq.cli.demonstration.premises import Tell
from tasker_zmq.cli.demonstration.programs import Program
from tasker_zmq.clock import Clock
from tasker_zmq.store.embedded import halt_server, resume_server

Ready = Callable[[], bool]
Script = Iterator[Ready]
CONNECT_SECONDS_MAX: Final = 2
AFTERMATH_SECONDS: Final = 5.0
MID_FRAME_BYTES_MAX: Final = 900
_BACKENDS: Final = """
SELECT pid FROM pg_stat_activity
WHERE application_name LIKE 'tasker-zmq %%' AND application_name <> %s AND datname = %s
ORDER BY pid"""


@dataclass(kw_only=True)
class Happening:
    """A fault that befell; times are seconds since 1970, `healed_at` None while it lasts."""

    fault: Fault
    began_at: float
    process_id: int
    healed_at: float | None = None


@dataclass(kw_only=True)
class Injector:
    """Begins faults when they are due and their victims are well, and heals them in time."""

    stage: Stage
    clock: Clock
    dice: random.Random
    tell: Tell
    waiting: list[Fault] = field(default_factory=list)
    happened: list[Happening] = field(default_factory=list)
    _active: dict[str, tuple[Happening, Script, Ready]] = field(default_factory=dict)

    @property
    def is_busy(self) -> bool:
        return bool(self._active)

    @property
    def database_was_away(self) -> bool:
        """Whether it is, or was until a moment ago: a daemon that was just started gave up."""
        return any(
            each.fault.victim == "database"
            and (each.healed_at is None or each.healed_at > self._now() - AFTERMATH_SECONDS)
            for each in self.happened
        )

    def turn(self, *, elapsed_seconds: float) -> None:
        """Go on with what is ready, and begin what is due."""
        for victim in list(self._active):
            _, script, ready = self._active[victim]
            if ready():
                self._go_on(victim, script)
        for fault in [each for each in self.waiting if each.at_seconds <= elapsed_seconds]:
            if fault.victim not in self._active:
                self.waiting.remove(fault)
                self._begin(fault, elapsed_seconds)

    def _begin(self, fault: Fault, elapsed_seconds: float) -> None:
        process_id = self._program(fault).running.pid
        happening = Happening(fault=fault, began_at=self._now(), process_id=process_id)
        self.happened.append(happening)
        script = self._script(fault)
        whom = f" of {fault.victim}" if fault.worker else ""
        kind = fault.kind.value.replace("_", " ")
        how_long = f" for {fault.lasts_seconds:.1f} s" if fault.lasts_seconds else ""
        self.tell(f"{elapsed_seconds:6.1f} s  {kind}{whom}{how_long}")
        self._active[fault.victim] = (happening, script, lambda: True)
        self._go_on(fault.victim, script)

    def _go_on(self, victim: str, script: Script) -> None:
        happening = self._active[victim][0]
        try:
            self._active[victim] = (happening, script, next(script))
        except StopIteration:
            happening.healed_at = self._now()
            del self._active[victim]

    def _program(self, fault: Fault) -> Program:
        return self.stage.workers[fault.worker] if fault.worker else self.stage.daemon

    def _script(self, fault: Fault) -> Script:
        match fault.kind:
            case FaultKind.WORKER_KILLED:
                return self._kill_worker(fault)
            case FaultKind.DAEMON_KILLED:
                return self._kill_daemon(fault)
            case FaultKind.DAEMON_RESTARTED:
                return self._restart_daemon()
            case FaultKind.DATABASE_RESTARTED | FaultKind.DATABASE_CRASHED:
                return self._halt_database(fault)
            case FaultKind.BACKEND_TERMINATED | FaultKind.BACKEND_KILLED:
                return self._end_backend(fault)
            case FaultKind.CONNECTIONS_CUT | FaultKind.CONNECTIONS_STALLED:
                return self._hurt_links(fault)
            case _:
                return self._pause(fault)

    def _kill_worker(self, fault: Fault) -> Script:
        self._kill(self.stage.workers[fault.worker])
        yield self._after(fault.lasts_seconds)
        self.stage.start_worker(fault.worker)

    def _kill_daemon(self, fault: Fault) -> Script:
        self._kill(self.stage.daemon)
        yield self._after(fault.lasts_seconds)
        self.stage.start_daemon()

    def _restart_daemon(self) -> Script:
        ending = self.stage.daemon
        self.stage.expect_end(ending)
        ending.running.terminate()
        yield lambda: ending.running.poll() is not None
        self.stage.start_daemon()

    def _pause(self, fault: Fault) -> Script:
        paused = self._program(fault)
        paused.running.send_signal(signal.SIGSTOP)
        yield self._after(fault.lasts_seconds)
        paused.running.send_signal(signal.SIGCONT)

    def _halt_database(self, fault: Fault) -> Script:
        folder = self.stage.server_folder
        halt_server(folder, at_once=fault.kind is FaultKind.DATABASE_CRASHED)
        yield self._after(fault.lasts_seconds)
        resume_server(folder)

    def _end_backend(self, fault: Fault) -> Script:
        """One of the daemon's; a killed one makes PostgreSQL restart all of them."""
        url = make_url(self.stage.database_url).set(drivername="postgresql")
        with (
            suppress(psycopg.OperationalError),
            psycopg.connect(
                url.render_as_string(hide_password=False),
                autocommit=True,
                connect_timeout=CONNECT_SECONDS_MAX,
            ) as connection,
        ):
            names = (f"tasker-zmq {PURPOSE}", url.database)
            found = [row[0] for row in connection.execute(_BACKENDS, names)]
            if found and fault.kind is FaultKind.BACKEND_TERMINATED:
                connection.execute("SELECT pg_terminate_backend(%s)", (self.dice.choice(found),))
            elif found:
                _kill_process(self.dice.choice(found))
        yield lambda: True

    def _hurt_links(self, fault: Fault) -> Script:
        """Some of the worker's links, at least one: ended, half of a frame later, or silent."""
        links = list(self.stage.links[fault.worker].values())
        hurt = self.dice.sample(links, self.dice.randint(1, len(links)))
        for each in hurt:
            if fault.kind is FaultKind.CONNECTIONS_STALLED:
                each.stall()
            elif self.dice.random() < 0.5:  # noqa: PLR2004 - as likely as not
                each.cut()
            else:
                each.cut_mid_frame(self.dice.randint(1, MID_FRAME_BYTES_MAX))
        yield self._after(fault.lasts_seconds)
        for each in hurt:
            each.flow()

    def _kill(self, program: Program) -> None:
        self.stage.expect_end(program)
        program.running.kill()
        program.running.wait()

    def _after(self, seconds: float) -> Ready:
        until = self.clock.monotonic() + seconds
        return lambda: self.clock.monotonic() >= until

    def _now(self) -> float:
        return self.clock.now().timestamp()


def _kill_process(process_id: int) -> None:
    with suppress(ProcessLookupError):
        os.kill(process_id, signal.SIGKILL)
