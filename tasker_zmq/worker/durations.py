"""Durations and backoffs as people write them: `30s`, `1.5m`, `1s..60s`, `linear 1s..10s`."""

import re
from typing import Final

from tasker_zmq.domain.template import Backoff, BackoffKind

_DURATION: Final = re.compile(r"(\d{1,12}(?:\.\d{1,6})?)(ms|s|m|h)", re.ASCII)
_MILLISECONDS: Final = {"ms": 1, "s": 1_000, "m": 60_000, "h": 3_600_000}
_TIMEOUT_SECONDS_MAX: Final = 7 * 24 * 3_600  # as in task templates
_BACKOFF_MS_MAX: Final = 24 * 3_600_000
_DEFAULT_CEILING_MS: Final = Backoff().ceiling_ms


def milliseconds(text: str) -> int:
    """`text` in whole milliseconds; raises ValueError with the accepted forms."""
    match = _DURATION.fullmatch(text.strip())
    if match is None:
        raise ValueError(f"'{text}' is not a duration; write it like 500ms, 30s, 1.5m or 1h")
    return round(float(match.group(1)) * _MILLISECONDS[match.group(2)])


def seconds(value: str | float) -> float:
    """A timeout given as text or as seconds; raises ValueError unless it is above zero."""
    found = milliseconds(value) / 1_000 if isinstance(value, str) else float(value)
    if not 0 < found <= _TIMEOUT_SECONDS_MAX:
        raise ValueError(f"{value!r} is not a timeout: it must be above zero, at most 7 days")
    return found


def backoff(text: str) -> Backoff:
    """`BASE..CEILING`, or one duration for a constant wait, with an optional kind before it.

    Raises ValueError with the accepted forms.
    """
    kind_word, _, rest = text.strip().rpartition(" ")
    base_text, dots, ceiling_text = rest.partition("..")
    base_ms = milliseconds(base_text)
    if kind_word:
        kind = _kind(kind_word.strip(), text)
    else:
        kind = BackoffKind.EXPONENTIAL if dots else BackoffKind.CONSTANT
    if dots:
        ceiling_ms = milliseconds(ceiling_text)
    elif kind is BackoffKind.CONSTANT:
        ceiling_ms = base_ms
    else:
        ceiling_ms = max(base_ms, _DEFAULT_CEILING_MS)
    if ceiling_ms < base_ms:
        raise ValueError(f"backoff '{text}' ends below its beginning; write the shorter wait first")
    if ceiling_ms > _BACKOFF_MS_MAX:
        raise ValueError(f"backoff '{text}' waits longer than 24h")
    return Backoff(kind=kind, base_ms=base_ms, ceiling_ms=ceiling_ms)


def _kind(word: str, text: str) -> BackoffKind:
    if word not in tuple(BackoffKind):
        known = ", ".join(BackoffKind)
        raise ValueError(f"backoff '{text}' begins with '{word}'; known kinds: {known}")
    return BackoffKind(word)
