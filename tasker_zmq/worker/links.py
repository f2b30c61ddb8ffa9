"""All links of a worker: which cores there are, which batch lies where, and what each may send.

A batch lies with one core at a time: where the last registration that named it was answered. Until
then it is an orphan, of which nothing is reported. Registrations are numbered, so that a core that
reads one late takes nothing back that another core was given meanwhile.
"""

import logging
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Final

import msgspec
import zmq

from tasker_zmq.domain.credit import shares
from tasker_zmq.domain.ids import BatchUuid, SessionId
from tasker_zmq.protocol.commands import InHand, RegisterWorker, WorkerHeartbeat, WorkerRegistered
from tasker_zmq.protocol.envelope import CoreAddress
from tasker_zmq.settings import is_loopback
from tasker_zmq.telemetry.events import Event, log
from tasker_zmq.worker.control import Phase
from tasker_zmq.worker.corelink import Claim, CoreLink, LinkParts

LINKS_MAX: Final = 64
REGRANT_SECONDS: Final = 0.25  # at least, between two changes of shares for want of more
FORMER_MAX: Final = 8
OWNERS_SPARE: Final = 256  # entries about batches that are over, before they are swept out

_log = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class Hands:
    """What the worker has in hand, whichever core sent it."""

    registration: RegisterWorker  # lacks only what is in hand
    in_hand: Callable[[], tuple[InHand, ...]]


class Links:
    """The cores that this worker serves."""

    def __init__(self, urls: Iterable[str], parts: LinkParts, hands: Hands) -> None:
        self._parts = parts
        self._hands = hands
        self._owners: dict[BatchUuid, CoreLink] = {}
        self._named_by: dict[BatchUuid, int] = {}  # an orphan's last registration
        self._orphans = bool(hands.in_hand())
        self._former: tuple[SessionId, ...] = ()  # under which orphans were sent to us
        self._registrations = 0
        self._unusable: set[CoreAddress] = set()
        self._regrant_at = 0.0
        self._granted_to: list[CoreLink] = []
        self._links = tuple(CoreLink(url, parts, self) for url in dict.fromkeys(urls))

    def __iter__(self) -> Iterator[CoreLink]:
        return iter(self._links)

    def close(self) -> None:
        for link in self._links:
            link.close()

    # What goes over a link.

    def describe(self, link: CoreLink) -> RegisterWorker:
        """Ourselves, with what lies with this link's core and with none.

        What is not named goes elsewhere: taken all the same by the former session, it would run
        twice.
        """
        link.leave_plane()
        elsewhere = {key for each in self._links if each is not link for key in each.claimed}
        in_hand = tuple(
            each
            for each in self._hands.in_hand()
            if self._owners.get(each.batch_id, link) is link and each.batch_id not in elsewhere
        )
        own = link.session_id
        former = tuple(each for each in self._former if each != own)
        batch_ids = frozenset(each.batch_id for each in in_hand)
        self._registrations += 1
        link.claim = Claim(number=self._registrations, batch_ids=batch_ids, session_ids=former)
        for batch_id in batch_ids:
            self._owners.pop(batch_id, None)
            self._named_by[batch_id] = self._registrations
        self._orphans = self._orphans or bool(batch_ids)
        return msgspec.structs.replace(
            self._hands.registration,
            former_session_id=own,
            former_session_ids=former,
            in_hand=in_hand,
            credit=None if len(self._links) == 1 else self._first_credit(),
            registrations=self._registrations,
        )

    def beat(self, link: CoreLink, session_id: SessionId) -> WorkerHeartbeat:
        in_hand = self._hands.in_hand()
        if len(self._owners) > len(in_hand) + OWNERS_SPARE:
            known = {each.batch_id for each in in_hand}
            self._owners = {key: each for key, each in self._owners.items() if key in known}
        its = tuple(each for each in in_hand if self._owners.get(each.batch_id) is link)
        link.demand.in_hand = sum(len(each.step_ids) for each in its)
        return WorkerHeartbeat(
            session_id=session_id,
            current_load=link.demand.in_hand,
            in_hand=its,
            last_publication=link.last_publication,
            credit=None if self._lone is link else link.credit,
        )

    # Which batch lies where.

    def own(self, batch_id: BatchUuid, link: CoreLink) -> None:
        """This link's core has sent the batch."""
        self._owners[batch_id] = link

    def owner(self, batch_id: BatchUuid) -> CoreLink | None:
        return self._owners.get(batch_id)

    def session_of(self, batch_id: BatchUuid) -> SessionId | None:
        """The session that answers for the batch; None while there is none."""
        link = self._owners.get(batch_id)
        if link is None or link.control.phase is not Phase.REGISTERED:
            return None
        return link.session_id

    def end_step(self, batch_id: BatchUuid) -> None:
        link = self._owners.get(batch_id)
        if link is not None:
            link.demand.end(1)

    # The links' lives.

    @property
    def _lone(self) -> CoreLink | None:
        """The only link, if there is but one."""
        return self._links[0] if len(self._links) == 1 else None

    def begin(self, link: CoreLink, session: WorkerRegistered, now: float) -> None:
        """A registration was answered: what nobody was asked for since lies there now."""
        if link.learned and link.core_id not in {None, session.core_id}:
            thought = CoreAddress(core_id=link.core_id or "", commands=link.url)
            self._refuse(thought, f"'{session.core_id}' answers there")
            self._drop(link)
            return
        claim, link.claim = link.claim, Claim()
        for batch_id in claim.batch_ids:
            if self._named_by.get(batch_id) == claim.number:
                del self._named_by[batch_id]
                self._owners[batch_id] = link
        self._former = tuple(each for each in self._former if each not in claim.session_ids)
        if claim.session_ids:
            told = {"core": session.core_id, "batches": len(claim.batch_ids)}
            log(_log, logging.INFO, Event.BATCHES_BROUGHT, **told)
        link.begin(session, now)
        self._granted_to = []
        twin = self._twin(link)
        if twin is not None:
            link.learned = link.learned and twin.learned
            self._release(twin)
            self._drop(twin)
        self.note_cores(link, session.cores)

    def _twin(self, link: CoreLink) -> CoreLink | None:
        """An older link to the same core, by another address."""
        twins = (e for e in self._links if e is not link and e.core_id == link.core_id)
        return next(twins, None)

    def turn(self, now: float) -> None:
        """Talk where something is due, and take to another core what lies with one that is away."""
        if len(self._links) > 1:
            for link in self:
                self._look_after(link, now)
            self._take_orphans(now)
            self._regrant(now)
        for link in self:
            link.control.turn(now)

    def _look_after(self, link: CoreLink, now: float) -> None:
        if not link.given_up and self._is_lost(link, now):
            self._release(link)
            if link.control.phase is Phase.REGISTERED:
                link.control.seek(now, reason="its batches go to another core")
        if link.given_up and link.learned and not self._is_named(link):
            self._drop(link)

    def _is_lost(self, link: CoreLink, now: float) -> bool:
        """Whether to give its core up until it answers; not as long as there is no other."""
        away = link.control.away_since
        if away is None or not any(each.is_live for each in self._links):
            return False
        if link.session is None:
            return not self._is_named(link)
        patience = link.session.heartbeat_interval_seconds
        return not self._is_named(link) or now - away >= patience

    def _is_named(self, link: CoreLink) -> bool:
        """Whether a core that lives says that this one does; a core not asked yet is believed in.

        Cores of older releases name none.
        """
        told = [each.cores for each in self._links if each.is_live and each.cores]
        if not told or link.core_id is None:
            return True
        return any(core.core_id == link.core_id for cores in told for core in cores)

    def _release(self, link: CoreLink) -> None:
        """What lies with its core, or was claimed for it, is for another one."""
        lying = {key for key, each in self._owners.items() if each is link} | link.claim.batch_ids
        for key in lying:
            if self._owners.get(key, link) is link:
                self._owners.pop(key, None)
        own = link.session_id
        if own is not None and own not in self._former:
            self._former = (*self._former, own)[-FORMER_MAX:]
        self._orphans = self._orphans or bool(lying)
        link.claim = Claim()
        link.given_up = True
        link.demand.in_hand = 0
        link.leave_plane()

    def _take_orphans(self, now: float) -> None:
        """Have a living core take over what lies with none, unless one is asked for it already."""
        if not self._orphans or any(each.claimed for each in self._links):
            return
        if all(each.batch_id in self._owners for each in self._hands.in_hand()):
            self._orphans = False
            self._named_by.clear()
            return
        for link in self._links:
            if link.is_live:
                link.control.register_again(now)
                return

    def next_due(self) -> float | None:
        """When `turn` has something to do at the earliest."""
        lone = self._lone
        if lone is not None:
            return lone.control.next_due()
        dues = [each.control.next_due() for each in self._links]
        if any(each.is_live for each in self._links):
            dues += [
                each.control.away_since + each.session.heartbeat_interval_seconds
                for each in self._links
                if each.control.away_since is not None and each.session and not each.given_up
            ]
        return min((each for each in dues if each is not None), default=None)

    # Which cores there are.

    def note_cores(self, teller: CoreLink, cores: tuple[CoreAddress, ...]) -> None:
        """Open links to cores that have none; what one host can reach another may not."""
        if cores == teller.cores:
            return
        teller.cores = cores
        for core in cores:
            known = self._known(core)
            if known is None:
                self._open(core, teller)
            elif known.core_id is None:
                known.core_id = core.core_id

    def _known(self, core: CoreAddress) -> CoreLink | None:
        """The link to this core: to one that moved, by another address, it is of no use."""
        for link in self._links:
            there = link.url == core.commands
            if link.core_id == core.core_id and (there or link.control.away_since is None):
                return link
            if link.core_id is None and there:
                return link
        return None

    def _open(self, core: CoreAddress, teller: CoreLink) -> None:
        unwanted = core in self._unusable or len(self._links) >= LINKS_MAX
        if unwanted or not means_the_same(core.commands, told_at=teller.url):
            return
        try:
            link = CoreLink(core.commands, self._parts, self, core_id=core.core_id, learned=True)
        except zmq.ZMQError as error:
            self._refuse(core, str(error))
            return
        self._links = (*self._links, link)
        log(_log, logging.INFO, Event.CORE_FOUND, core=core.core_id, commands=core.commands)

    def _refuse(self, core: CoreAddress, problem: str) -> None:
        """Say once why there is no link to it."""
        self._unusable.add(core)
        told = {"core": core.core_id, "commands": core.commands, "problem": problem}
        log(_log, logging.WARNING, Event.CORE_NOT_REACHABLE, **told)

    def _drop(self, link: CoreLink) -> None:
        self._links = tuple(each for each in self._links if each is not link)
        link.close()
        self._granted_to = []
        for each in self._links if len(self._links) == 1 else ():
            each.control.beat_soon(self._parts.clock.monotonic())  # all the credit is its own now
        log(_log, logging.INFO, Event.CORE_LET_GO, core=link.core_id, commands=link.url)

    # What each core may send.

    @property
    def _whole(self) -> int:
        """What the worker may hold in all; what a daemon of an older release gives is that."""
        sessions = [each.session for each in self._links if each.session is not None]
        wholes = [each.whole_credit or each.credit for each in sessions]
        fallback = self._hands.registration.metadata.max_concurrent_steps
        return max(wholes, default=fallback)

    def _first_credit(self) -> int:
        """A core that is not known to need more gets an equal part."""
        return max(1, self._whole // len(self._links))

    def _regrant(self, now: float) -> None:
        """Share the credit out anew: when cores come or go, and when one could use more."""
        living = [each for each in self._links if each.is_in_use]
        if living == self._granted_to and (
            now < self._regrant_at
            or not any(each.demand.is_hungry(each.credit or 1) for each in living)
        ):
            return
        self._regrant_at = now + REGRANT_SECONDS
        self._granted_to = living
        whole = self._whole
        for each in living:
            each.demand.turn(now)
        wants = [each.demand.wants(each.credit or 1, whole=whole) for each in living]
        for each, credit in zip(living, shares(whole, wants), strict=True):
            if each.credit != credit:
                each.credit = credit
                each.control.beat_soon(now)


def means_the_same(commands: str, *, told_at: str) -> bool:
    """Whether an address leads to where who told it meant: loopback is another on each machine."""
    return not is_loopback(commands) or is_loopback(told_at)
