"""For the measurement of backpressure: a handler that takes a second."""

import time

from tasker_zmq import step, workflow


@step(handler="bench.slow")
def slow() -> str:
    time.sleep(1)
    return "done"


nap = workflow("bench/nap@1.0.0", slow)
