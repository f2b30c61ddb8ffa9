"""Who holds which name until when, and who owns what: as it is committed, asked once a commit."""

from datetime import datetime

from tests.simulation.database import Database

# In each branch: what, of whom or of what number, whose, by which session, epoch, until when.
_QUERY = """
SELECT 'core', 0, core_id, NULL, epoch, lease_expires_at FROM tasker_cores
UNION ALL
SELECT 'task', task_id, processing_core_id, NULL, NULL, NULL
FROM tasker_tasks WHERE completed_at IS NULL
UNION ALL
SELECT 'batch', batch_id, core_id, session_id, NULL, NULL FROM tasker_step_execution_batches
WHERE reconciliation_status = 'pending' OR state IN ('created', 'published', 'in_progress')"""

Owners = dict[tuple[str, int], tuple[str | None, str | None]]


class Standing:
    """`owners` are core and session by kind and number; the others are by core."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._looked_at = -1
        self.owners: Owners = {}
        self.epochs: dict[str, int] = {}
        self.leases: dict[str, datetime] = {}

    def look(self) -> None:
        """See what is committed by now."""
        if self._looked_at == self._database.commits:
            return
        self._looked_at = self._database.commits
        self.owners, self.epochs, self.leases = {}, {}, {}
        for kind, number, core, session_id, epoch, until in self._database.rows(_QUERY):
            if kind == "core":
                self.epochs[core], self.leases[core] = epoch, until
            else:
                self.owners[kind, number] = core, session_id
