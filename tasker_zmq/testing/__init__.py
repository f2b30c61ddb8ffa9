"""For our tests and for those of worker authors; nothing that runs in production imports it."""

from tasker_zmq.testing.clock import ManualClock

__all__ = ["ManualClock"]
