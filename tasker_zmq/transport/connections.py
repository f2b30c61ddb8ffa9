"""The connection by which something came, while it lasts: libzmq names no peers of an XPUB."""

import os
import socket
from dataclasses import dataclass
from typing import Self

import zmq


@dataclass(frozen=True)
class Connection:
    """A socket of libzmq's; its number is used again when it has gone, its inode is not."""

    descriptor: int
    inode: int

    @classmethod
    def of(cls, frame: zmq.Frame) -> Self | None:
        """None for peers of the same process, and when libzmq itself says that one has gone."""
        try:
            descriptor = int(frame.get(zmq.SRCFD))
            return cls(descriptor, os.fstat(descriptor).st_ino)
        except (zmq.ZMQError, OSError):
            return None

    @property
    def is_open(self) -> bool:
        """Whether it is there, and the peer has not ended it."""
        try:
            if os.fstat(self.descriptor).st_ino != self.inode:
                return False
            with socket.socket(fileno=os.dup(self.descriptor)) as ours:
                return bool(ours.recv(1, socket.MSG_PEEK | socket.MSG_DONTWAIT))
        except BlockingIOError:
            return True  # it says nothing, and has not ended
        except OSError:
            return False
