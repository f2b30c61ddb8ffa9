"""Whether anybody still wants what a run will return: asked from any thread, said once."""

import threading
from collections.abc import Callable


class Cancellation:
    """One run's flag; who runs it may be told the moment it is set."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._listeners: list[Callable[[str], None]] = []
        self._reason: str | None = None

    @property
    def is_set(self) -> bool:
        return self._reason is not None

    @property
    def reason(self) -> str | None:
        """Why, in words for a person; None while the run is wanted."""
        return self._reason

    def set(self, reason: str) -> None:
        """Only the first call counts."""
        with self._lock:
            if self._reason is not None:
                return
            self._reason = reason
            listeners, self._listeners = self._listeners, []
        for listener in listeners:
            listener(reason)

    def when_set(self, listener: Callable[[str], None]) -> None:
        """Call `listener` with the reason, on the thread that sets it; at once if it is set."""
        with self._lock:
            if self._reason is None:
                self._listeners.append(listener)
                return
        listener(self._reason)
