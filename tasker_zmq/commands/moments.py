"""Moments that commands name."""

from datetime import datetime

from tasker_zmq.commands.replies import CommandRefusedError


def moment(word: str, *, name: str) -> datetime:
    """The moment that a field of this name means; raises CommandRefusedError."""
    try:
        found = datetime.fromisoformat(word)
    except ValueError:
        found = None
    if found is None or found.tzinfo is None:
        raise CommandRefusedError(
            "invalid", f"{name} is '{word[:50]}'; wanted: ISO 8601 with its zone"
        )
    return found
