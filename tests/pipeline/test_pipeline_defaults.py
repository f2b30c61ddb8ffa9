"""What a step gets whose template says nothing; a setting never changes what is published."""

from typing import Any

import msgspec
import pytest

from tasker_zmq.daemon.tuning import tuning_of
from tasker_zmq.domain.template import Backoff, StepDefaults
from tasker_zmq.pipeline.tuning import Tuning
from tasker_zmq.settings import RetrySettings, Settings, TimeoutSettings
from tasker_zmq.testing.world import NAMESPACE, VERSION, World
from tests.pipeline.conftest import MakeWorld

DEFAULTS = StepDefaults(
    retry_limit=7, backoff=Backoff(base_ms=250, ceiling_ms=900), timeout_seconds=12.5
)
SET = Settings(
    retry=RetrySettings(limit=7, backoff_base_ms=250, backoff_ceiling_ms=900),
    timeouts=TimeoutSettings(step_seconds=12.5),
)
HEAD = {"name": "one", "namespace_name": NAMESPACE, "version": VERSION}
NEWER: dict[str, Any] = {**HEAD, "steps": [{"name": "a", "handler": {"callable": "tests.work"}}]}
OLDER: dict[str, Any] = {
    **HEAD,
    "step_templates": [{"name": "a", "handler_class": "tests.work"}],
}
SAID: dict[str, Any] = {
    **HEAD,
    "steps": [
        {
            "name": "a",
            "handler": {"callable": "tests.work"},
            "retry": {"max_attempts": 2, "backoff_base_ms": 10, "max_backoff_ms": 20},
            "timeout_seconds": 5,
        }
    ],
}


def verdict(world: World, mapping: dict[str, Any]) -> str:
    reply = world.ask("PublishTemplates", {"templates": [mapping]})
    found = msgspec.json.decode(reply.payload.data)["verdicts"][0]["verdict"]
    assert isinstance(found, str)
    return found


def row(world: World) -> tuple[Any, ...]:
    (found,) = world.rows(
        "SELECT retry_limit, backoff_base_ms, backoff_ceiling_ms, timeout_seconds "
        "FROM tasker_named_tasks_named_steps"
    )
    return tuple(found)


def test_the_settings_are_what_the_daemon_gives_to_steps() -> None:
    assert tuning_of(SET).step_defaults == DEFAULTS


@pytest.mark.parametrize("mapping", [NEWER, OLDER])
def test_a_step_that_says_nothing_gets_the_daemons_defaults(
    make_world: MakeWorld, mapping: dict[str, Any]
) -> None:
    world = make_world(tuning=Tuning(step_defaults=DEFAULTS))
    world.publish(mapping)
    assert row(world) == (7, 250, 900, 12.5)
    worker = world.worker()
    world.submit("one")
    (request,) = worker.in_hand[0].steps
    assert (request.metadata.retry_limit, request.metadata.timeout_ms) == (7, 12_500)
    world.run()


def test_what_a_template_says_is_above_the_daemons_defaults(make_world: MakeWorld) -> None:
    world = make_world(tuning=Tuning(step_defaults=DEFAULTS))
    world.publish(SAID)
    assert row(world) == (1, 10, 20, 5.0)


def test_a_changed_setting_makes_no_workflow_look_changed(make_world: MakeWorld) -> None:
    world = make_world(tuning=Tuning(step_defaults=DEFAULTS))
    world.publish(NEWER)
    world.submit("one")
    other = make_world(core_id="core-2", tuning=Tuning(step_defaults=StepDefaults(retry_limit=1)))
    assert verdict(other, NEWER) == "unchanged"
    assert row(other) == (7, 250, 900, 12.5)
    world.worker()
    world.run()
