"""Waits that others end."""

import threading

from tasker_zmq.daemon.wakeup import Wakeup

LONG = 600.0


def test_a_wait_is_ended_by_a_wake_before_it_or_meanwhile() -> None:
    with Wakeup() as wakeup:
        wakeup.wake()
        wakeup.wait(LONG)
        thread = threading.Thread(target=wakeup.wait, args=(LONG,))
        thread.start()
        wakeup.wake()
        thread.join()


def test_a_wake_is_used_up_by_the_wait_that_it_ended() -> None:
    with Wakeup() as wakeup:
        for _ in range(100_000):  # more than a pipe holds
            wakeup.wake()
        while wakeup.wait(0.0):
            pass
        assert not wakeup.wait(0.0)


def test_a_wake_that_comes_too_late_is_no_error() -> None:
    with Wakeup() as wakeup:
        pass
    wakeup.wake()
