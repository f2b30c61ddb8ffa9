"""What `tasker-worker TARGET...` names: modules, files or pools; imported here, nowhere else."""

import importlib
import importlib.util
import os
import sys
import traceback
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from types import ModuleType
from typing import Any, Final

from tasker_zmq.domain.template import TaskTemplate
from tasker_zmq.errors import HandlerDefinitionError, TaskerError
from tasker_zmq.protocol.commands import SupportedTask
from tasker_zmq.templates import Loaded, load_file, load_folder, load_mapping
from tasker_zmq.worker.place import did_you_mean
from tasker_zmq.worker.pools import EXECUTORS, TASK, HandlerPool, PoolTask, TargetError, read_pool
from tasker_zmq.worker.registry import workflows_in

__all__ = ["EXECUTORS", "LoadedTargets", "TargetError", "load_targets"]

POOL_ENDINGS: Final = (".yaml", ".yml")
NEAR_FILES_MAX: Final = 200


@dataclass(frozen=True, kw_only=True)
class LoadedTargets:
    """What the targets brought; None where no pool says anything."""

    name: str
    modules: tuple[ModuleType, ...] = ()
    template_paths: tuple[Path, ...] = ()
    concurrency: int | None = None
    executor: str | None = None
    environment: str | None = None
    tasks: tuple[PoolTask, ...] = ()
    exclusive: bool | None = None


def load_targets(targets: Sequence[str]) -> LoadedTargets:
    """Import every target; raises TargetError or HandlerDefinitionError, which name it.

    A target that ends in .yaml or .yml is a pool; one that ends in .py or holds a slash is a file,
    imported under its stem with its folder on the path; any other is a module, found from the
    current folder too.
    """
    found = LoadedTargets(name="")
    for target in targets:
        if target.endswith(POOL_ENDINGS):
            pool = read_pool(Path(target))
            found = _with_pool(found, pool, target)
            stem = pool.name
        elif target.endswith(".py") or os.sep in target:
            found = _with_modules(found, import_file(Path(target), target))
            stem = Path(target).stem
        else:
            found = _with_modules(found, import_module(target))
            stem = target.rpartition(".")[2]
        if not found.name:
            found = replace(found, name=stem)
    return found


def templates_of(loaded: LoadedTargets, *, environment: str) -> tuple[TaskTemplate, ...]:
    """The workflows of the modules and the templates of the pools, checked as the daemon does.

    Raises TargetError with one line per problem.
    """
    results: list[Loaded] = []
    for workflow in workflows_in(loaded.modules):
        source = f"{workflow.place}: {workflow.full_name}"
        results.append(load_mapping(workflow.template(), source=source, environment=environment))
    for path in loaded.template_paths:
        if path.is_dir():
            results += load_folder(path, environment=environment)
        else:
            results.append(load_file(path, environment=environment))
    problems = [str(problem) for each in results for problem in each.problems]
    if problems:
        raise TargetError("\n".join(problems))
    found: dict[str, TaskTemplate] = {}
    for each in results:
        if each.template is not None:
            found.setdefault(each.template.full_name, each.template)
    return tuple(found.values())


def supported_tasks(
    loaded: LoadedTargets, templates: Sequence[TaskTemplate], *, exclusive: bool
) -> tuple[SupportedTask, ...]:
    """The workflows that the worker says it knows: those that pools name, and those at hand.

    When it takes no others and a pool names some, what is at hand is not meant. Raises TargetError
    for a worker that could never get work.
    """
    found: dict[tuple[str, str, str], SupportedTask] = {}
    if not (exclusive and loaded.tasks):
        for each in templates:
            name = (each.namespace, each.name, each.version)
            found[name] = SupportedTask(namespace=name[0], name=name[1], version=name[2])
    for said in loaded.tasks:
        parts = TASK.fullmatch(said.task)
        assert parts is not None  # noqa: S101 - checked when the pool was read
        found[parts[1], parts[2], parts[3]] = SupportedTask(
            namespace=parts[1],
            name=parts[2],
            version=parts[3],
            priority=said.priority,
            configuration=said.configuration,
        )
    if exclusive and not found:
        raise TargetError(
            "exclusive, but the targets define no workflow and no pool names one under tasks:;"
            " such a worker would never get work"
        )
    return tuple(found.values())


def import_module(name: str) -> ModuleType:
    """The module called `name`; the current folder counts, as it does for `python -m`."""
    _put_on_path(Path.cwd())
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError as error:
        if error.name is None or not (name == error.name or name.startswith(f"{error.name}.")):
            raise _failed_import(name, error) from error
        near = did_you_mean(name, _module_names(Path.cwd()))
        raise TargetError(
            f"no module '{name}' is found from {Path.cwd()} or the installed packages{near}"
        ) from None
    except HandlerDefinitionError:
        raise
    except Exception as error:
        raise _failed_import(name, error) from error


def import_file(path: Path, target: str) -> ModuleType:
    """The file as a module called by its stem; its folder goes on the path, for its neighbours."""
    file = path.resolve()
    if not file.is_file():
        near = did_you_mean(path.name, _files_beside(file))
        raise TargetError(f"no file '{target}' is found{near}")
    known = sys.modules.get(file.stem)
    if known is not None:
        if getattr(known, "__file__", None) == str(file):
            return known
        raise TargetError(
            f"'{target}' would be imported as '{file.stem}', which another module is called"
            " already; rename the file"
        )
    _put_on_path(file.parent)
    spec = importlib.util.spec_from_file_location(file.stem, file)
    if spec is None or spec.loader is None:
        raise TargetError(f"'{target}' is not Python source; name a .py file")
    module = importlib.util.module_from_spec(spec)
    sys.modules[file.stem] = module
    try:
        spec.loader.exec_module(module)
    except HandlerDefinitionError:
        del sys.modules[file.stem]
        raise
    except Exception as error:
        del sys.modules[file.stem]
        raise _failed_import(target, error) from error
    return module


def _with_modules(found: LoadedTargets, *modules: ModuleType) -> LoadedTargets:
    new = tuple(each for each in modules if each not in found.modules)
    return replace(found, modules=found.modules + new)


def _with_pool(found: LoadedTargets, pool: HandlerPool, target: str) -> LoadedTargets:
    if pool.modules:
        _put_on_path(pool.folder)
    modules = [import_module(each) for each in pool.modules]
    modules += [import_file(pool.folder / each, f"{target}: {each}") for each in pool.files]
    found = _with_modules(found, *modules)
    said: dict[str, Any] = {
        "concurrency": pool.concurrency,
        "executor": pool.executor,
        "environment": pool.environment,
        "exclusive": bool(pool.tasks) if pool.exclusive is None else pool.exclusive,
    }
    for name, value in said.items():
        earlier = getattr(found, name)
        if value is not None and earlier is not None and earlier != value:
            raise TargetError(
                f"{target} says {name}: {value}, an earlier pool {earlier}; one worker has one,"
                " so start a worker for each"
            )
    kept = {name: value for name, value in said.items() if value is not None}
    kept["tasks"] = found.tasks + pool.pool_tasks()
    return replace(found, template_paths=found.template_paths + pool.template_paths(), **kept)


def _failed_import(target: str, error: Exception) -> TaskerError:
    frames = traceback.extract_tb(error.__traceback__)
    last = frames[-1] if frames else None
    where = f" at {last.filename}:{last.lineno}" if last else ""
    if isinstance(error, SyntaxError):
        where = f" at {error.filename}:{error.lineno}"
    return TargetError(f"importing '{target}' failed{where}: {type(error).__name__}: {error}")


def _put_on_path(folder: Path) -> None:
    text = str(folder)
    if text not in sys.path:
        sys.path.insert(0, text)


def _module_names(folder: Path) -> list[str]:
    """Modules that could be named from `folder`, two levels deep: enough for a good guess."""
    names = []
    for pattern in ("*.py", "*/*.py"):
        for file in sorted(folder.glob(pattern))[:NEAR_FILES_MAX]:
            parts = file.relative_to(folder).with_suffix("").parts
            if all(part.isidentifier() and not part.startswith("__") for part in parts):
                names.append(".".join(parts))
    return names


def _files_beside(file: Path) -> list[str]:
    if not file.parent.is_dir():
        return []
    return [each.name for each in sorted(file.parent.glob("*.py"))[:NEAR_FILES_MAX]]
