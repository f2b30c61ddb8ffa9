"""The errors a user may see; the message says what was wanted, what was found and what to do."""


class TaskerError(Exception):
    """Any refusal of ours; `str(error)` is written for the person who reads it."""


class SettingsError(TaskerError):
    """A setting is unknown, has the wrong type or is out of its range."""


class TemplateError(TaskerError):
    """A task template cannot be used; the message carries one line per problem."""


class HandlerDefinitionError(TaskerError):
    """A step or workflow is declared wrongly; the message names file and line."""


class ProtocolError(TaskerError):
    """Bytes from a peer do not make a message; `reason` is a short, stable word."""

    def __init__(self, reason: str, detail: str) -> None:
        super().__init__(f"{reason}: {detail}")
        self.reason = reason
        self.detail = detail


class SchemaVersionError(TaskerError):
    """The database's schema is not the one this program knows."""


class NotFoundError(TaskerError):
    """Nothing has the given name or id."""


class RefusedError(TaskerError):
    """The other side understood the request and said no."""


class UnreachableError(TaskerError):
    """The database or the daemon did not answer."""


class StaleWriteError(TaskerError):
    """A guarded statement moved fewer rows than were loaded: run the tick again."""


class PermanentError(Exception):
    """Raise it in a handler to end the step for good: it is never tried again."""


class RetryableError(Exception):
    """Raise it in a handler to have the step tried again, `retry_after` seconds on if given."""

    def __init__(self, message: str = "", *, retry_after: float | None = None) -> None:
        super().__init__(message)
        self.retry_after = retry_after
