"""What one simulation consists of: drawn from its seed, shown with it, made smaller on failure."""

import random
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, field, replace
from enum import StrEnum
from typing import Any, Final

HANDLERS: Final = ("sim.red", "sim.green", "sim.blue")
CRASH_BEFORE_SEND: Final = "crash_before_send"
SHAPES: Final = ("chain", "diamond", "fan", "random")

# Kinds of misfortune, and how likely each is where it may strike.
FAULTS: Final[Mapping[str, tuple[float, float]]] = {
    "loss": (0.02, 0.25),  # a message of the data plane gets lost
    "command_loss": (0.02, 0.2),  # so does a command, or its answer
    "twins": (0.02, 0.25),  # a result or publication arrives twice
    "command_twins": (0.02, 0.15),
    "reordering": (0.05, 0.4),  # a message is overtaken by later ones
    "full_pipes": (0.02, 0.2),  # a publication waits in the daemon before it leaves
    "slow_joiner": (0.2, 0.9),  # a subscription is seen late
    "false_hints": (0.1, 0.6),  # ends of subscriptions get lost, or come after the next beginning
    "partition": (0.02, 0.1),
    "deaf": (0.05, 0.4),  # a session that beats, and never gets a publication
    "half_open": (0.02, 0.15),  # a connection of which the worker does not know that it is gone
    "worker_crash": (0.02, 0.1),
    "crash_before_send": (0.02, 0.15),  # between the end of a handler and its report
    "worker_stop": (0.01, 0.06),  # SIGTERM, then a new process
    "worker_pause": (0.02, 0.1),  # SIGSTOP, for longer or shorter than a session lives
    "core_crash": (0.01, 0.06),
    "core_pause": (0.01, 0.04),
    "unknown_commit": (0.01, 0.08),
    "conflict": (0.01, 0.06),
    "outage": (0.005, 0.03),
    "clock_jump": (0.005, 0.03),
    "failures": (0.05, 0.4),  # of handlers: may be tried again, or not
    "hang": (0.01, 0.1),  # a handler that never comes back
    "slow": (0.05, 0.4),
    "once": (0.1, 0.6),  # a step that must not run twice
}

# What happens only where there are several cores.
CORE_FAULTS: Final[Mapping[str, tuple[float, float]]] = {
    "core_gone": (0.003, 0.02),  # it dies, and nobody starts it again
    "core_drain": (0.003, 0.02),  # SIGTERM
    "core_twin": (0.2, 0.9),  # of one that is not heard of another is started under its name
    "core_cut": (0.02, 0.15),  # from all workers, not from the database
    "lost_words": (0.1, 0.6),  # of NOTIFY: they come late, or not at all
    "registrations": (0.02, 0.15),  # all workers register again, several times
}


@dataclass(frozen=True, kw_only=True)
class StepPlan:
    """One step of a workflow."""

    name: str
    after: tuple[str, ...]
    handler: str
    max_attempts: int
    retryable: bool
    confirm_start: bool
    backoff_ms: int
    timeout_seconds: int


@dataclass(frozen=True, kw_only=True)
class WorkerPlan:
    """One worker's name, slots and handlers."""

    name: str
    concurrency: int
    handlers: tuple[str, ...]


LEGACY: Final = WorkerPlan(name="legacy", concurrency=8, handlers=HANDLERS)


class Legacy(StrEnum):
    """Whether there is a worker without a session, and what work it gets."""

    NONE = "none"
    BESIDE = "beside"  # what comes while nobody registered can run it
    NEEDED = "needed"  # and all of one handler, which nobody registered has


@dataclass(frozen=True, kw_only=True)
class Options:
    """Everything that the seed decides before time begins; rates are chances from 0 to 1."""

    seed: int
    workers: tuple[WorkerPlan, ...]
    steps: tuple[StepPlan, ...]
    tasks: int
    batch_size: int
    credit_factor: float
    steps_in_memory: int
    tick_gap: float  # seconds between two ticks of a busy core, at least
    stormy_seconds: float
    rates: Mapping[str, float] = field(default_factory=dict)
    brisk: bool = False  # steps end at once, and workers take bursts of them
    durable: tuple[str, ...] = ()  # the workers with an outbox on disk
    legacy: Legacy = Legacy.NONE
    cores: int = 1
    by_sql: int = 0  # tasks that are asked for by SQL, all at one moment

    def rate(self, fault: str) -> float:
        return self.rates.get(fault, 0.0)

    def shown(self) -> str:
        """A few lines for whoever has to find out what happened."""
        slots = ", ".join(f"{each.name} x{each.concurrency}" for each in self.workers)
        by_sql = f" and {self.by_sql} by SQL" if self.by_sql else ""
        asked = f"{self.tasks} tasks{by_sql} of {len(self.steps)} steps"
        lines = [
            f"seed {self.seed}: {asked}; cores {self.cores}; workers {slots}",
            f"  batches of {self.batch_size}, credit x{self.credit_factor}",
            f"  {self.steps_in_memory} steps in memory, ticks {self.tick_gap} s apart",
            f"  brisk steps: {'yes' if self.brisk else 'no'}",
            f"  a storm of {self.stormy_seconds} s",
            f"  outboxes on disk: {', '.join(self.durable) or 'none'}; legacy worker {self.legacy}",
            "  " + ", ".join(f"{name} {rate:.3f}" for name, rate in sorted(self.rates.items())),
        ]
        lines += [
            f"  {each.name} after ({', '.join(each.after)}) {each.handler} tries "
            f"{each.max_attempts}{'' if each.retryable else ' not retryable'}"
            f"{' confirm_start' if each.confirm_start else ''} backoff {each.backoff_ms} ms "
            f"timeout {each.timeout_seconds} s"
            for each in self.steps
        ]
        return "\n".join(lines)


def draw(seed: int, *, without: frozenset[str] = frozenset(), **fixed: Any) -> Options:
    """The options of a seed; `fixed` replaces fields, `rates` in it adds to those drawn."""
    dice = random.Random(seed)
    kinds = list(FAULTS)
    chosen = dice.sample(kinds, k=dice.choice((0, 2, 3, 4, 6, 9, len(kinds))))
    rates = {kind: round(dice.uniform(*FAULTS[kind]), 3) for kind in chosen}
    more = fixed.pop("rates", {})
    rates = {kind: rate for kind, rate in {**rates, **more}.items() if kind not in without}
    drawn = Options(
        seed=seed,
        workers=tuple(_worker(dice, number) for number in range(dice.choice((1, 2, 2, 3, 4, 8)))),
        steps=_steps(dice, rates.get("once", 0.0)),
        tasks=dice.choice((1, 2, 3, 5, 8)),
        batch_size=dice.choice((1, 2, 3, 10)),
        credit_factor=dice.choice((1.0, 1.5, 2.0)),
        steps_in_memory=dice.choice((4, 10_000, 10_000)),
        tick_gap=dice.choice((0.01, 0.1, 0.3)),
        stormy_seconds=dice.choice((8.0, 15.0, 25.0)),
        rates=rates,
        brisk=seed % 3 == 0,
    )
    legacy = dice.choice((*[Legacy.NONE] * 3, Legacy.BESIDE, Legacy.NEEDED))
    chance = dice.choice((0.0, 0.5, 1.0))
    durable = tuple(each.name for each in drawn.workers if dice.random() < chance)
    options = replace(drawn, **{"durable": durable, "legacy": legacy, **fixed})
    if options.durable and CRASH_BEFORE_SEND not in without and dice.random() < 0.5:
        rate = round(dice.uniform(*FAULTS[CRASH_BEFORE_SEND]), 3)  # what the file is for
        options = replace(options, rates={CRASH_BEFORE_SEND: rate, **rates})
    options = _with_cores(options, dice, fixed.keys(), without)
    return _leave_one_out(options) if options.legacy is Legacy.NEEDED else options


def _with_cores(
    options: Options, dice: random.Random, fixed: Collection[str], without: frozenset[str]
) -> Options:
    """Half of the seeds have several cores, and what may happen to those."""
    cores = dice.choice((1, 1, 2, 3))
    by_sql = dice.choice((0, 0, 3, 10))
    chosen = dice.sample(list(CORE_FAULTS), k=dice.choice((0, 1, 2, 3, len(CORE_FAULTS))))
    rates = {kind: round(dice.uniform(*CORE_FAULTS[kind]), 3) for kind in chosen}
    if "cores" not in fixed:
        options = replace(options, cores=cores)
    if options.cores == 1:
        return options
    if "by_sql" not in fixed:
        options = replace(options, by_sql=by_sql)
    rates = {kind: rate for kind, rate in rates.items() if kind not in without}
    return replace(options, rates={**rates, **options.rates})


def _leave_one_out(options: Options) -> Options:
    """One handler that no registered worker has."""
    others = HANDLERS[:-1]
    workers = tuple(
        replace(each, handlers=tuple(name for name in each.handlers if name in others) or others)
        for each in options.workers
    )
    return replace(options, workers=workers)


def _worker(dice: random.Random, number: int) -> WorkerPlan:
    handlers = HANDLERS if number == 0 else tuple(dice.sample(HANDLERS, k=dice.randint(1, 3)))
    return WorkerPlan(
        name=f"w{number + 1}", concurrency=dice.choice((1, 2, 4, 8)), handlers=handlers
    )


def _steps(dice: random.Random, once: float) -> tuple[StepPlan, ...]:
    count = dice.choice((1, 2, 3, 4, 4, 6, 9, 12))
    shape = dice.choice(SHAPES)
    names = [f"s{number}" for number in range(1, count + 1)]
    return tuple(
        StepPlan(
            name=name,
            after=_parents(dice, names, place, shape=shape),
            handler=dice.choice(HANDLERS),
            max_attempts=dice.choice((1, 2, 3, 4)),
            retryable=dice.random() >= once / 2,
            confirm_start=dice.random() < once / 2,
            backoff_ms=dice.choice((0, 200, 1_500)),
            timeout_seconds=dice.choice((2, 5, 8)),
        )
        for place, name in enumerate(names)
    )


def _parents(dice: random.Random, names: list[str], place: int, *, shape: str) -> tuple[str, ...]:
    before = names[:place]
    if not before:
        return ()
    if shape == "chain":
        return (before[-1],)
    if shape == "fan":
        return (names[0],)
    if shape == "diamond":
        last = place == len(names) - 1
        return tuple(before[1:] or before) if last else (names[0],)
    return tuple(sorted(dice.sample(before, k=dice.randint(0, min(3, len(before))))))


def smaller(options: Options) -> Iterator[Options]:
    """Options that may fail in the same way and have less in them, the boldest first."""
    for kind in options.rates:
        yield replace(
            options, rates={name: rate for name, rate in options.rates.items() if name != kind}
        )
    yield from _with_less_beside(options)
    if options.tasks > 1:
        yield replace(options, tasks=options.tasks // 2)
    if len(options.workers) > 1:
        yield replace(options, workers=options.workers[: len(options.workers) // 2])
    if len(options.steps) > 1:
        kept = options.steps[: len(options.steps) // 2]
        yield replace(options, steps=kept)
    if options.stormy_seconds > 4:
        yield replace(options, stormy_seconds=options.stormy_seconds / 2)


def _with_less_beside(options: Options) -> Iterator[Options]:
    """Without what makes a system of several kinds."""
    if options.cores > 1:
        yield replace(options, cores=options.cores - 1)
    if options.by_sql:
        yield replace(options, by_sql=options.by_sql // 2)
    if options.durable:
        yield replace(options, durable=())
    if options.legacy is not Legacy.NONE:
        first = replace(options.workers[0], handlers=HANDLERS)
        yield replace(options, legacy=Legacy.NONE, workers=(first, *options.workers[1:]))
