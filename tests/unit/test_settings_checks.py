"""Settings that are wrong together, and sockets that others could reach."""

from dataclasses import replace

import pytest

from tasker_zmq.errors import SettingsError
from tasker_zmq.settings import (
    EndpointSettings,
    HeartbeatSettings,
    LimitSettings,
    RetrySettings,
    Settings,
    is_loopback,
    refuse_public_binds,
)
from tasker_zmq.settings.checks import check_together


def test_the_defaults_fit_together_and_bind_loopback_only() -> None:
    assert check_together(Settings()) == []
    refuse_public_binds(Settings())


@pytest.mark.parametrize(
    ("settings", "told"),
    [
        (
            Settings(heartbeat=HeartbeatSettings(interval_seconds=6)),
            (
                "'heartbeat.interval_seconds' (6) wants to be less than"
                " 'heartbeat.suspect_seconds' (6)"
            ),
        ),
        (
            Settings(heartbeat=HeartbeatSettings(suspect_seconds=20)),
            "'heartbeat.suspect_seconds' (20) wants to be less than 'heartbeat.dead_seconds' (10)",
        ),
        (
            Settings(retry=RetrySettings(backoff_base_ms=31_000)),
            (
                "'retry.backoff_base_ms' (31000) wants to be at most"
                " 'retry.backoff_ceiling_ms' (30000)"
            ),
        ),
        (
            Settings(limits=LimitSettings(batch_steps_max=9)),
            "'dispatch.batch_size' (10) wants to be at most 'limits.batch_steps_max' (9)",
        ),
        (
            Settings(endpoints=EndpointSettings(steps="tcp://127.0.0.1:5556")),
            (
                "'endpoints.results' and 'endpoints.steps' both are tcp://127.0.0.1:5556;"
                " give each its own"
            ),
        ),
    ],
)
def test_settings_that_contradict_each_other_are_refused(settings: Settings, told: str) -> None:
    assert check_together(settings) == [told]


def test_ports_that_the_system_chooses_may_be_written_alike() -> None:
    any_port = "tcp://127.0.0.1:*"
    endpoints = EndpointSettings(
        steps=any_port, results=any_port, commands=any_port, health=any_port
    )
    assert check_together(Settings(endpoints=endpoints)) == []


@pytest.mark.parametrize(
    "endpoint",
    ["tcp://127.0.0.1:1", "tcp://127.8.9.1:*", "tcp://[::1]:1", "tcp://localhost:1",
     "ipc:///tmp/x", "ipc://@name", "inproc://steps"],
)  # fmt: skip
def test_what_only_this_machine_reaches_is_loopback(endpoint: str) -> None:
    assert is_loopback(endpoint)


PUBLIC = [
    "tcp://*:5555", "tcp://0.0.0.0:5555", "tcp://[::]:5555", "tcp://10.0.0.1:1", "tcp://eth0:1",
    "tcp://lo:1", "tcp://example.org:1", "tcp://localhost.example.org:1", "tcp://127.1:1",
    "tcp://[::ffff:10.0.0.1]:1", "tcp://127.0.0.1.example.org:1",
]  # fmt: skip


@pytest.mark.parametrize("endpoint", PUBLIC)
def test_a_public_bind_is_refused_with_reason_and_ways_out(endpoint: str) -> None:
    settings = Settings(endpoints=EndpointSettings(commands=endpoint))
    with pytest.raises(SettingsError) as caught:
        refuse_public_binds(settings)
    message = str(caught.value)
    for word in ("endpoints.commands", endpoint, "no keys yet", "may run and read work",
                 "tcp://127.0.0.1:", "ipc://", "--insecure"):  # fmt: skip
        assert word in message


def test_a_public_bind_is_allowed_when_someone_says_so() -> None:
    endpoints = EndpointSettings(steps="tcp://*:5555", insecure=True)
    refuse_public_binds(Settings(endpoints=endpoints))


def test_every_public_bind_is_named() -> None:
    endpoints = replace(EndpointSettings(), steps="tcp://*:1", health="tcp://*:2")
    with pytest.raises(SettingsError) as caught:
        refuse_public_binds(Settings(endpoints=endpoints))
    assert len(str(caught.value).splitlines()) == 2
