"""Log records as lines: `time level event key=value ...` for people, JSON for machines."""

import logging
import sys
from datetime import UTC, datetime
from typing import Final, Literal, TextIO

import orjson

OURS: Final = "tasker_zmq"
EVERYONE: Final = ""  # the root of all loggers: a handler's own records are shown as ours are


class TextFormatter(logging.Formatter):
    """For people."""

    def format(self, record: logging.LogRecord) -> str:
        moment = datetime.fromtimestamp(record.created, UTC).strftime("%H:%M:%S.%f")[:-3]
        fields = getattr(record, "fields", {})
        told = " ".join(f"{key}={_on_one_line(value)}" for key, value in fields.items())
        line = f"{moment} {record.levelname.lower():7} {record.getMessage()} {told}".rstrip()
        if record.exc_info:
            line += "\n" + self.formatException(record.exc_info)
        return line


class JsonFormatter(logging.Formatter):
    """For machines: one object a line."""

    def format(self, record: logging.LogRecord) -> str:
        entry = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(),
            "level": record.levelname.lower(),
            "event": record.getMessage(),
            "logger": record.name,
            **getattr(record, "fields", {}),
        }
        if record.exc_info:
            entry["exception"] = self.formatException(record.exc_info)
        return orjson.dumps(entry, default=str).decode()


def _on_one_line(value: object) -> str:
    """A handler's error message may hold anything: nothing of it looks like another record."""
    text = str(value)
    return text if text.isprintable() else repr(text)


def configure(
    *,
    level: str,
    style: Literal["text", "json"],
    root: str = OURS,
    stream: TextIO = sys.stderr,
) -> None:
    """Send the records of `root` and below to `stream`; call it once, from a command."""
    handler = logging.StreamHandler(stream)
    handler.setFormatter(JsonFormatter() if style == "json" else TextFormatter())
    logger = logging.getLogger(root)
    logger.handlers[:] = [handler]
    logger.setLevel(level.upper())
    logger.propagate = False
    if root == EVERYONE:  # at debug, asyncio says things that no reader of a worker's log wants
        logging.getLogger("asyncio").setLevel(logging.WARNING)
