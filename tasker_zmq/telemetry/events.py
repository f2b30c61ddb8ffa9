"""The catalogue: every event that is logged, by its name; fields carry the rest."""

import logging
from enum import StrEnum


class Event(StrEnum):
    """Names are stable: machines match on them."""

    DAEMON_STARTING = "daemon_starting"
    DAEMON_READY = "daemon_ready"
    DAEMON_DRAINING = "daemon_draining"
    DAEMON_STOPPED = "daemon_stopped"
    DATABASE_AWAY = "database_away"
    DATABASE_BACK = "database_back"
    TICK_FAILED = "tick_failed"
    MESSAGE_POISONOUS = "message_poisonous"
    WORKER_REGISTERED = "worker_registered"
    SESSION_GONE = "session_gone"
    SUBSCRIPTION_REFUSED = "subscription_refused"
    LEGACY_WORKER_SEEN = "legacy_worker_seen"
    INBOX_FULL = "inbox_full"
    PUBLICATION_POSTPONED = "publication_postponed"
    CORE_LOST = "core_lost"


def log(logger: logging.Logger, level: int, event: Event, **fields: object) -> None:
    """One record: the event's name as its message, everything else as fields."""
    if logger.isEnabledFor(level):
        logger.log(level, event.value, extra={"fields": fields})
