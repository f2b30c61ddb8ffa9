"""The simulated network: every message travels alone, and what can happen to it happens."""

import random
from collections.abc import Callable
from dataclasses import dataclass, field

from tests.simulation.options import Options
from tests.simulation.timeline import Timeline, Trace

USUAL_SECONDS = (0.0005, 0.02)
OVERTAKEN_SECONDS = (0.05, 3.0)
FULL_PIPE_SECONDS = (0.1, 4.0)
JOINER_SECONDS = (0.05, 2.5)
DATA_KINDS = frozenset({"publication", "result"})
TO_WORKER = frozenset({"publication", "letter"})


@dataclass(eq=False)
class Link:
    """The wire between a core and one process; a direction may be cut until a moment."""

    name: str
    to_worker_cut_until: float = 0.0
    to_core_cut_until: float = 0.0
    latest: dict[str, float] = field(default_factory=dict)  # by kind: messages keep their order

    def cut(self, which: str, until: float) -> None:
        """The way "in" to the worker, the way "out" of it, or both."""
        if which != "out":
            self.to_worker_cut_until = until
        if which != "in":
            self.to_core_cut_until = until

    def cut_until(self, kind: str) -> float:
        return self.to_worker_cut_until if kind in TO_WORKER else self.to_core_cut_until


class Network:
    """Carries messages; with `calm` nothing bad happens any more."""

    def __init__(
        self, options: Options, timeline: Timeline, trace: Trace, dice: random.Random
    ) -> None:
        self._options = options
        self._timeline = timeline
        self._trace = trace
        self._dice = dice
        self.calm = False

    def strikes(self, fault: str) -> bool:
        """Whether this kind of misfortune happens now."""
        if self.calm or fault not in self._options.rates:
            return False
        return self._dice.random() < self._options.rate(fault)

    def send(self, link: Link, kind: str, arrive: Callable[[], None], *, told: str) -> None:
        """Let `arrive` happen later, perhaps twice, perhaps never."""
        data = kind in DATA_KINDS
        if self.strikes("loss" if data else "command_loss"):
            self._trace.note("lost", link.name, kind, told)
            return
        copies = 2 if self.strikes("twins" if data else "command_twins") else 1
        for _ in range(copies):
            moment = self._moment(link, kind)
            if moment is None:
                self._trace.note("cut", link.name, kind, told)
            else:
                self._timeline.at(moment, arrive)

    def _moment(self, link: Link, kind: str) -> float | None:
        now = self._timeline.now
        moment = now + self._dice.uniform(*USUAL_SECONDS)
        if kind == "publication" and self.strikes("full_pipes"):
            moment += self._dice.uniform(*FULL_PIPE_SECONDS)
        cut_until = 0.0 if self.calm else link.cut_until(kind)
        if cut_until > now:
            if self._dice.random() < 0.5:
                return None  # the connection was given up meanwhile
            moment += cut_until - now
        if self.strikes("reordering"):
            return moment + self._dice.uniform(*OVERTAKEN_SECONDS)
        lane = "data" if kind in DATA_KINDS else "command"
        key = f"{lane} {kind in TO_WORKER}"
        moment = max(moment, link.latest.get(key, 0.0) + 1e-6)
        link.latest[key] = moment
        return moment

    def joining_seconds(self) -> float:
        """How long a subscription takes until the other side sees it."""
        if self.strikes("slow_joiner"):
            return self._dice.uniform(*JOINER_SECONDS)
        return self._dice.uniform(*USUAL_SECONDS)
