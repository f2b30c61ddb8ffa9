"""Names are the glossary's."""

import ast
import re
from collections.abc import Iterator
from pathlib import Path

from tasker_zmq.store.tables import Base
from tests.tidy import source

GLOSSARY = source.text(source.ROOT / "docs" / "GLOSSARY.md")
BANNED_HEADING = "## Banned as names"
# Where a banned word is somebody else's, and why.
ALLOWED = {
    ("tasker_zmq/commands/replies.py", "data"): "the field of the published envelope",
    ("tasker_zmq/protocol/commands.py", "data"): "the field of the published envelope",
    ("tasker_zmq/settings/environment.py", "process_variables"): "the process's: no verb",
    ("tasker_zmq/settings/sections.py", "INFO"): "a log level's name everywhere",
    ("tasker_zmq/settings/sections.py", "_process_data_dir"): "the process's: no verb",
    ("tasker_zmq/store/embedded.py", "data"): "what PostgreSQL calls its folder",
    ("tasker_zmq/store/tables/declarative.py", "Base"): "what SQLAlchemy's users expect",
}
HANDLER_METHOD = "process"  # the handler API of existing workers


def banned(scope: str) -> set[str]:
    """The words that the glossary bans as `scope`."""
    rows = source.table_rows(GLOSSARY, below=BANNED_HEADING)
    found = {word for row in rows if scope in row[1] for word in re.findall(r"`(\w+)`", row[0])}
    assert found, f"the glossary bans nothing as {scope}"
    return found


ANYWHERE = banned("any part of a name")
WHOLE = banned("a whole name")
VERBS = banned("the first word of a function")


def words(name: str) -> list[str]:
    """`takeOverTask` and `take_over_task` as their words, in small letters."""
    return re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "_", name).lower().strip("_").split("_")


def is_banned(name: str, *, function: bool) -> bool:
    parts = words(name)
    if ANYWHERE & set(parts) or "_".join(parts) in WHOLE:
        return True
    return function and parts[0] in VERBS and name != HANDLER_METHOD


def given_names(path: Path) -> Iterator[tuple[int, str, bool]]:
    """Line, name, and whether it is a function, of all that a module names itself."""
    for node in ast.walk(source.tree(path)):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            yield node.lineno, node.name, True
        elif isinstance(node, ast.ClassDef):
            yield node.lineno, node.name, False
        elif isinstance(node, ast.arg):
            yield node.lineno, node.arg, False
        elif isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
            yield node.lineno, node.id, False
        elif isinstance(node, ast.Attribute) and isinstance(node.ctx, ast.Store):
            yield node.lineno, node.attr, False


def test_no_name_in_the_code_is_one_that_the_glossary_bans() -> None:
    found = [
        f"{source.shown(path)}:{line} {name}"
        for path in source.python("tasker_zmq", "workers", "docs")
        for line, name, function in given_names(path)
        if is_banned(name, function=function) and (source.shown(path), name) not in ALLOWED
    ]
    assert not found, source.listed(found)


def test_no_module_or_package_is_named_after_nothing() -> None:
    found = [
        source.shown(path)
        for path in source.python("tasker_zmq", "workers")
        if any(
            is_banned(part, function=False) or part == "core"
            for part in (*path.relative_to(source.ROOT).parts[:-1], path.stem)
        )
    ]
    assert not found, source.listed(found)


def test_every_exception_for_a_name_is_still_needed() -> None:
    used = {
        (source.shown(path), name)
        for path in source.python("tasker_zmq", "workers", "docs")
        for _, name, function in given_names(path)
        if is_banned(name, function=function)
    }
    assert set(ALLOWED) - used == set()


def test_the_glossary_names_exactly_the_mapped_tables_under_exactly_their_classes() -> None:
    written = {
        (row[2].strip("`"), row[3].strip("`"))
        for row in source.table_rows(GLOSSARY)
        if len(row) > 3 and row[2].startswith("`tasker_")
    }
    mapped = {(str(mapper.local_table), mapper.class_.__name__) for mapper in Base.registry.mappers}
    assert written == mapped


def test_every_class_that_the_glossary_names_exists() -> None:
    classes = {
        node.name
        for path in source.python("tasker_zmq")
        for node in ast.walk(source.tree(path))
        if isinstance(node, ast.ClassDef)
    }
    named = {
        name
        for row in source.table_rows(GLOSSARY.partition(BANNED_HEADING)[0])
        if len(row) > 3
        for name in re.findall(r"`([A-Z]\w+)`", row[3])
    }
    # NewTypes and dataclasses alike are names that a reader looks up.
    types = {
        node.id
        for path in source.python("tasker_zmq")
        for node in ast.walk(source.tree(path))
        if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store)
    }
    assert named - classes - types == set()
