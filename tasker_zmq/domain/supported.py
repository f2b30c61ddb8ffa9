"""What a worker has declared: the named tasks that it knows, and whether it takes no others.

Whoever declares nothing, or not exclusively, is sent every step whose handler it runs.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final

from tasker_zmq.domain.kinds import TaskName

PRIORITY: Final = 100
PRIORITY_MAX: Final = 1_000_000
ANY_VERSION: Final = "*"
NO_CONFIGURATION: Final = b"{}"


@dataclass(frozen=True, kw_only=True)
class Association:
    """That a worker knows a named task; the configuration, a JSON object, travels with the work."""

    priority: int = PRIORITY  # a higher one is preferred
    configuration: bytes = NO_CONFIGURATION

    @property
    def plain(self) -> bool:
        """Whether it makes no difference."""
        return self == _PLAIN


_PLAIN: Final = Association()


@dataclass(frozen=True, kw_only=True)
class Declared:
    """The named tasks that a worker knows; a version may be ANY_VERSION, nothing else is guessed.

    `exclusive`: it is sent steps of these named tasks and of no others.
    """

    tasks: Mapping[TaskName, Association] = field(default_factory=dict)
    exclusive: bool = False

    def find(self, task: TaskName) -> Association | None:
        """What it declared of this very version, else of any version."""
        if not self.tasks:
            return None
        return self.tasks.get(task) or self.tasks.get(task._replace(version=ANY_VERSION))

    def allows(self, task: TaskName) -> bool:
        """Whether its declaration lets steps of this named task through."""
        return not self.exclusive or self.find(task) is not None

    @property
    def choosy(self) -> bool:
        """Whether it matters of which named task a step is."""
        return self.exclusive or not all(each.plain for each in self.tasks.values())


NOTHING_DECLARED: Final = Declared()
