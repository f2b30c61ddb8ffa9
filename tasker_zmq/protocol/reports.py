"""The answer to a result that was reported as a command instead of on the data plane."""

import msgspec

from tasker_zmq.protocol.commands import NULL


class ResultReported(msgspec.Struct, frozen=True, kw_only=True):
    """What the ledger keeps of the message: its verdict and, unless it was simply applied, why."""

    verdict: str
    problems: msgspec.Raw = NULL
