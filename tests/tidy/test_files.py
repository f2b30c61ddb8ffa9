"""What lies in the tree is used, readable by everyone, and names nobody's machine."""

import re
import tomllib
from pathlib import Path

from tests.tidy import source

# Put together here so that this file does not contain what it looks for.
UNFINISHED = re.compile(
    r"\b(" + "|".join(("TO" + "DO", "FIX" + "ME", "XX" + "X", "HA" + "CK")) + r")\b"
)
OF_ONE_MACHINE = re.compile(
    "|".join(
        (
            "/wo" + r"rk/",
            "/ro" + r"ot\b",
            "py" + r"pi\.",
            "python" + r"hosted\.",
            "npm" + r"js\.",
            "proxy\\.go" + "lang",
            "ruby" + r"gems\.org",
            "docker" + r"\.io",
        )
    )
)
TEMPORARY = re.compile("/tm" + r"p\b")  # a test may name it as an address that nobody opens
EMOJI = re.compile("[\U0001f000-\U0001faff\u2600-\u26ff\u2705\u274c\u2728\u2b50\ufe0f]")


def hits(pattern: re.Pattern[str]) -> list[str]:
    return [
        f"{source.shown(path)}:{number} {line.strip()[:80]}"
        for path in source.texts()
        for number, line in enumerate(source.text(path).splitlines(), start=1)
        if pattern.search(line)
    ]


def test_nothing_is_left_for_later_in_a_comment() -> None:
    found = hits(UNFINISHED)
    assert not found, source.listed(found)


def test_nothing_names_the_machine_it_was_written_on_or_a_package_host() -> None:
    found = hits(OF_ONE_MACHINE)
    found += [each for each in hits(TEMPORARY) if not each.startswith("tests/")]
    assert not found, source.listed(found)


def test_text_is_plain() -> None:
    found = hits(EMOJI)
    assert not found, source.listed(found)


def test_only_make_is_indented_by_tabs() -> None:
    found = [each for each in hits(re.compile("\t")) if not each.startswith("Makefile:")]
    assert not found, source.listed(found)


def test_every_text_is_utf_8_and_ends_with_one_line_end() -> None:
    ragged = [
        source.shown(path)
        for path in source.texts()
        if source.text(path)
        and (not source.text(path).endswith("\n") or source.text(path).endswith("\n\n"))
        and "fixtures" not in path.parts
    ]
    assert not ragged, source.listed(ragged)


def entry_points() -> set[str]:
    project = tomllib.loads(source.text(source.ROOT / "pyproject.toml"))["project"]
    return {target.partition(":")[0] for target in project["scripts"].values()}


def test_every_module_is_imported_by_another() -> None:
    modules = source.python("tasker_zmq")
    imported = {
        name
        for path in source.python("tasker_zmq", "alembic", "docs", "tests")
        for name in source.imports(path)
        if "tests" not in path.parts or path.name in ("conftest.py", "databases.py")
    }
    public = {"tasker_zmq", "tasker_zmq.testing"}  # imported by those who use the package
    # A module may also be named: for `python -m`, or as a lazily loaded `module:attribute`.
    named = re.compile(r'"(tasker_zmq(?:\.\w+)+)(?::\w+)?"')
    started = set(named.findall("".join(map(source.text, modules))))
    unused = [
        source.shown(path)
        for path in modules
        if source.module_name(path) not in imported | entry_points() | public | started
        and path.name != "__main__.py"
        and not _has_used_children(path, imported)
    ]
    assert not unused, source.listed(unused)


def _has_used_children(path: Path, imported: set[str]) -> bool:
    prefix = f"{source.module_name(path)}."
    return path.name == "__init__.py" and any(name.startswith(prefix) for name in imported)


def test_every_statement_is_used_by_name() -> None:
    code = "\n".join(source.text(path) for path in source.python("tasker_zmq"))
    unused = [
        source.shown(path)
        for path in source.files()
        if path.suffix == ".sql" and path.parent.name == "sql"
        if not re.search(rf"""["'/]{path.stem}(\.sql)?["']""", code)
    ]
    assert not unused, source.listed(unused)


def test_every_statement_begins_by_saying_what_it_does() -> None:
    silent = [
        source.shown(path)
        for path in source.files()
        if path.suffix == ".sql" and path.parent.name == "sql"
        if not source.text(path).startswith(f"-- {path.stem}: ")
    ]
    assert not silent, source.listed(silent)
