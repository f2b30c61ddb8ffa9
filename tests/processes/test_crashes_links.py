"""Links between a worker and the daemon that are cut, stall or lie: all work comes to its end.

A half-open link is one of which only one side has learnt that it is gone.
"""

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.processes.conftest import StartDaemon, StartWorker
from tests.processes.proxy import LINKS, RELATIVE, TO_PROXIES, Proxy, Side, linked
from tests.processes.rig import (
    FORGIVING,
    WORKLOAD,
    Witness,
    assert_it_held,
    await_no_open_tasks,
    await_steps,
    counted,
    let_pass,
    submit_many,
)
from tests.processes.running import RunningDaemon, eventually

pytestmark = pytest.mark.slow

CHAINS = 12
STEPS = 4 * CHAINS
STALL_SECONDS = 1.5

Hurt = Callable[[Proxy], None]
HURTS: dict[str, Hurt] = {
    "cut": Proxy.cut,
    "cut amid a frame": lambda link: link.cut_mid_frame(100),
    "stalled": Proxy.stall,
    "half open, the worker does not know": lambda link: link.half_open(Side.FAR),
    "half open, the daemon does not know": lambda link: link.half_open(Side.NEAR),
}


@pytest.fixture
def running(daemon: StartDaemon) -> RunningDaemon:
    """A daemon whose data plane is wherever a worker's folder is."""
    return daemon(variables={**FORGIVING, **RELATIVE})


@pytest.fixture
def links(
    running: RunningDaemon, worker: StartWorker, witness: Witness, short_folder: Path
) -> Iterator[dict[str, Proxy]]:
    """The links of the one worker that there is."""
    variables = {**witness.variables, **TO_PROXIES}
    threads = ("--concurrency", "4")
    worker(running, WORKLOAD, arguments=threads, variables=variables, sessions=None)
    near = short_folder / "handlers-1"
    with linked(near, short_folder, commands=running.endpoints["commands"]) as found:
        running.await_sessions(1)
        yield found


@pytest.mark.parametrize("how", HURTS)
def test_work_comes_to_its_end_whichever_link_is(
    running: RunningDaemon, links: dict[str, Proxy], witness: Witness, how: str
) -> None:
    """Hurt one link after the other amid work, and see each time that all of it ends."""
    for number, name in enumerate(LINKS):
        pipe = witness.pipe(f"held-{name}")
        held = submit_many(running, "tests/waiting@1.0.0", [{"pipe": str(pipe)}])[0]
        witness.await_run(held, "wait_at")
        submit_many(running, "tests/chain@1.0.0", [{"number": n} for n in range(CHAINS)])
        await_steps(running, "complete", number * (STEPS + 2) + CHAINS)
        before = links[name].carried_bytes
        HURTS[how](links[name])
        witness.release(pipe)
        if how == "stalled":
            let_pass(STALL_SECONDS)
            links[name].flow()
        await_no_open_tasks(running, seconds_max=30.0)
        eventually(lambda: links[name].carried_bytes > before, f"{name} carries again")  # noqa: B023
    assert counted(running, "tasker_tasks") == {"complete": (CHAINS + 1) * len(LINKS)}
    assert set(witness.runs().values()) <= {1, 2}
    assert_it_held(running)
