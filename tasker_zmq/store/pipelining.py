"""The driver's connection, which waits for what was sent ahead before it does anything else."""

from typing import Any, TypeVar

import psycopg
from psycopg.abc import PQGen
from psycopg.pq import TransactionStatus

from tasker_zmq.store.prepared import PreparedStatements

_Heard = TypeVar("_Heard")


class PipeliningConnection(psycopg.Connection[Any]):
    """Its `statements` may be sent without waiting; a commit takes them along."""

    def __init__(self, *args: Any, **fields: Any) -> None:
        super().__init__(*args, **fields)
        self.statements = PreparedStatements(self)

    def wait(self, gen: PQGen[_Heard], *args: Any, **fields: Any) -> _Heard:
        """Where everything goes through that the driver itself asks of the server."""
        self.statements.settle()
        return super().wait(gen, *args, **fields)

    def commit(self) -> None:
        """COMMIT; raises what the statements raise that were sent ahead."""
        try:
            with self.lock:
                committed = self.statements.commit()
        except BaseException:
            if self.info.transaction_status is TransactionStatus.INERROR:
                super().rollback()  # nobody rolls back what could not be committed
            raise
        if not committed:
            super().commit()

    def rollback(self) -> None:
        """ROLLBACK; what was sent ahead is of no interest any more."""
        with self.lock:
            self.statements.forget()
        super().rollback()
