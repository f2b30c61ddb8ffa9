"""What ends a thread's wait for sockets: any other thread, or a signal handler."""

import os
import select
from contextlib import suppress
from types import TracebackType
from typing import Self


class Wakeup:
    """A pipe to be waited for beside sockets; `wake` takes no lock, so it is safe everywhere."""

    def __init__(self) -> None:
        self._reading, self._writing = os.pipe()
        os.set_blocking(self._reading, False)
        os.set_blocking(self._writing, False)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, _: BaseException | None, __: TracebackType | None
    ) -> None:
        self.close()

    def fileno(self) -> int:
        """Readable once it was woken."""
        return self._reading

    def wake(self) -> None:
        """End the wait that is, or the next one."""
        with suppress(OSError):  # full: it wakes up anyway; closed: there is nobody to wake
            os.write(self._writing, b"\0")

    def wait(self, seconds: float) -> bool:
        """Until `wake`, for at most so long; whether it was woken."""
        waiting = select.poll()
        waiting.register(self._reading, select.POLLIN)
        woken = bool(waiting.poll(seconds * 1_000))
        if woken:
            os.read(self._reading, 65_536)
        return woken

    def close(self) -> None:
        reading, writing = self._reading, self._writing
        self._reading = self._writing = -1  # a late `wake` finds no file of others
        os.close(reading)
        os.close(writing)
