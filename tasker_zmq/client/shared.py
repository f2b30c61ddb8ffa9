"""The one client of a process that nobody made: for `workflow.submit(...)`."""

import atexit
import threading

from tasker_zmq.client.client import TaskerClient

_lock = threading.Lock()
_shared: list[TaskerClient] = []


def shared_client() -> TaskerClient:
    """Made when it is first asked for, closed when the process ends."""
    with _lock:
        if not _shared:
            client = TaskerClient()
            atexit.register(client.close)
            _shared.append(client)
        return _shared[0]
