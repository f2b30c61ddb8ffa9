"""The address that others are told, of a socket that is bound to another."""

import pytest

from tasker_zmq.transport.endpoints import advertised


@pytest.mark.parametrize(
    ("bound", "host", "told"),
    [
        ("tcp://0.0.0.0:5557", "north.example", "tcp://north.example:5557"),
        ("tcp://[::]:5557", "10.0.0.7", "tcp://10.0.0.7:5557"),
        ("tcp://127.0.0.1:5557", None, "tcp://127.0.0.1:5557"),
        ("ipc:///run/commands", "north.example", "ipc:///run/commands"),
    ],
)
def test_an_endpoint_is_told_under_the_name_of_its_host(
    bound: str, host: str | None, told: str
) -> None:
    assert advertised(bound, host) == told
