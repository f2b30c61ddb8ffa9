"""Handler pools: a YAML file that says what one worker runs and how.

name: orders                       # the worker's name begins with it
modules: [shop.orders]             # found from the pool's folder, the current one, or installed
files: [handlers/shipping.py]      # relative to the pool's own folder
templates: [../tasks/*.yaml]       # files, globs or folders, relative to it too
concurrency: 8
executor: thread                   # or process, or async
environment: production            # whose overrides of the templates apply
tasks:                             # steps of these workflows come here, and of no others
  - shop/orders@1.0.0              # namespace/name@version; @* is any version
  - task: shop/refunds@*
    priority: 200                  # 100 otherwise; a higher one is preferred
    configuration: {region: eu}    # travels with the work, as ctx.worker_config
exclusive: true                    # false: other workflows' steps too, if it has the handler
"""

import re
from pathlib import Path
from typing import Any, Final, Literal

import msgspec

from tasker_zmq.domain.supported import PRIORITY, PRIORITY_MAX
from tasker_zmq.errors import SettingsError
from tasker_zmq.templates.document import Document, UnreadableError, read_document
from tasker_zmq.worker.place import did_you_mean

EXECUTORS: Final = ("thread", "process", "async")
CONCURRENCY_MAX: Final = 10_000
TASK: Final = re.compile(r"([^/@\s]+)/([^/@\s]+)@(\S+)")


class TargetError(SettingsError):
    """A target of `tasker-worker` cannot be used; the message says which and why."""


class PoolTask(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A workflow that a pool runs, with what is special about it there."""

    task: str
    priority: int = PRIORITY
    configuration: dict[str, Any] = {}


class PoolFile(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The keys of a pool, as they stand in its file."""

    name: str | None = None
    modules: tuple[str, ...] = ()
    files: tuple[str, ...] = ()
    templates: tuple[str, ...] = ()
    concurrency: int | None = None
    executor: Literal["thread", "process", "async"] | None = None
    environment: str | None = None
    tasks: tuple[str | PoolTask, ...] = ()
    exclusive: bool | None = None  # None: if it names tasks


class HandlerPool(PoolFile, frozen=True, kw_only=True):
    """A pool and the folder that its relative paths start from."""

    name: str
    folder: Path

    def pool_tasks(self) -> tuple[PoolTask, ...]:
        """The workflows that it names, each in the longer form."""
        return tuple(PoolTask(task=each) if isinstance(each, str) else each for each in self.tasks)

    def template_paths(self) -> tuple[Path, ...]:
        """Files and folders with templates; raises TargetError for one that matches nothing."""
        found: dict[Path, None] = {}
        for pattern in self.templates:
            matched = _matching(self.folder, pattern)
            if not matched:
                raise TargetError(
                    f"pool '{self.name}': templates: '{pattern}' matches nothing below"
                    f" {self.folder}; paths are relative to the pool's file"
                )
            found |= dict.fromkeys(matched)
        return tuple(found)


def read_pool(path: Path) -> HandlerPool:
    """The pool in the file at `path`; raises TargetError with its name and line."""
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError:
        beside = [*path.parent.glob("*.yaml"), *path.parent.glob("*.yml")]
        near = did_you_mean(path.name, [each.name for each in beside])
        raise TargetError(f"no pool file '{path}' is found{near}") from None
    except (OSError, UnicodeDecodeError) as error:
        raise TargetError(f"pool file '{path}' cannot be read: {error}") from None
    try:
        document = read_document(text)
    except UnreadableError as error:
        place = path if error.line is None else f"{path}:{error.line}"
        raise TargetError(f"{place}: {error.message}") from None
    return _pool_of(document, path)


def _pool_of(document: Document, path: Path) -> HandlerPool:
    for line, message in document.repeated:
        raise TargetError(f"{path}:{line}: {message}")
    found = document.root.value
    if not isinstance(found, dict):
        raise TargetError(f"{path}: a pool is a mapping; begin with `modules:` or `files:`")
    known = PoolFile.__struct_fields__
    for key in found:
        if key not in known:
            place = f"{path}:{document.line_of((key,))}"
            raise TargetError(f"{place}: a pool has no '{key}'{did_you_mean(key, known)}")
    try:
        pool = msgspec.convert(found, PoolFile)
    except msgspec.ValidationError as error:
        raise TargetError(f"{path}: {error}") from None
    return _checked(pool, path)


def _checked(pool: PoolFile, path: Path) -> HandlerPool:
    if not pool.modules and not pool.files:
        raise TargetError(f"{path}: the pool names no handlers; give modules: or files:")
    if pool.concurrency is not None and not 1 <= pool.concurrency <= CONCURRENCY_MAX:
        raise TargetError(
            f"{path}: concurrency is {pool.concurrency}; from 1 to {CONCURRENCY_MAX} is possible"
        )
    given = msgspec.structs.asdict(pool)
    given |= {"name": pool.name or path.stem, "folder": path.resolve().parent}
    found = HandlerPool(**given)
    for each in found.pool_tasks():
        _check_task(each, path)
    return found


def _check_task(said: PoolTask, path: Path) -> None:
    if TASK.fullmatch(said.task) is None:
        raise TargetError(
            f"{path}: tasks: '{said.task[:200]}' is no workflow; wanted namespace/name@version,"
            " such as shop/orders@1.0.0, or shop/orders@* for any version"
        )
    if abs(said.priority) > PRIORITY_MAX:
        raise TargetError(
            f"{path}: tasks: the priority of '{said.task[:200]}' is {said.priority}; from"
            f" -{PRIORITY_MAX} to {PRIORITY_MAX} is possible"
        )


def _matching(folder: Path, pattern: str) -> list[Path]:
    path = Path(pattern)
    if not any(each in pattern for each in "*?["):
        full = folder / path
        return [full] if full.exists() else []
    # Path.glob takes no '..', so the part before the first wildcard is walked by hand.
    fixed = folder
    parts = list(path.parts)
    while parts and not any(each in parts[0] for each in "*?["):
        fixed = fixed / parts.pop(0)
    return sorted(fixed.glob(str(Path(*parts)))) if fixed.is_dir() else []
