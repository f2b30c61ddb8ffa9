"""Ending one peer's connection, for which libzmq has no call."""

import os
import socket
from contextlib import suppress

import zmq

from tasker_zmq.transport.endpoints import IPC


def cut_off(frame: zmq.Frame, endpoint: str) -> bool:
    """End the connection to `endpoint` by which `frame` came; whether there was one.

    A peer that serves its socket connects again by itself, and subscribes anew. Peers of the same
    process (inproc) have no connection.
    """
    try:
        descriptor = int(frame.get(zmq.SRCFD))
    except zmq.ZMQError:
        return False
    # The connection may be gone and its number in use for something else: look before cutting.
    with suppress(OSError), socket.socket(fileno=os.dup(descriptor)) as connection:
        if _leads_to(connection, endpoint):
            connection.shutdown(socket.SHUT_RDWR)
            return True
    return False


def _leads_to(connection: socket.socket, endpoint: str) -> bool:
    address = connection.getsockname()
    if endpoint.startswith(IPC):
        return bool(address == endpoint.removeprefix(IPC))
    return isinstance(address, tuple) and endpoint.endswith(f":{address[1]}")
