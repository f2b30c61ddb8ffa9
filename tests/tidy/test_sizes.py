"""Nothing grows past what a reader takes in at once."""

import ast
import re

from tests.tidy import source

MODULE_LINES_MAX = 400
FUNCTION_LINES_MAX = 60
LINE_MAX = 100
# As for the linter: a comment that switches a rule off may stand behind the line it is about.
PRAGMA = re.compile(r"  # (?:noqa|type: ignore).*$")
GENERATED = {"alembic/versions/0001_create_the_schema.py"}  # written by autogenerate, once


def test_no_module_has_more_lines_than_a_reader_keeps_in_mind() -> None:
    long = {
        source.shown(path): lines
        for path in source.python()
        if (lines := len(source.text(path).splitlines())) > MODULE_LINES_MAX
    }
    assert not long.keys() - GENERATED, long


def test_no_function_is_longer_than_a_screen() -> None:
    long = [
        f"{source.shown(path)}:{node.lineno} {node.name} has {node.end_lineno - node.lineno + 1}"
        for path in source.python()
        if source.shown(path) not in GENERATED
        for node in ast.walk(source.tree(path))
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
        and node.end_lineno is not None
        and node.end_lineno - node.lineno + 1 > FUNCTION_LINES_MAX
    ]
    assert not long, source.listed(long)


def test_no_line_of_code_is_wider_than_the_page() -> None:
    endings = (".py", ".sql", ".toml", ".yml", ".yaml", ".ini")
    wide = [
        f"{source.shown(path)}:{number} has {len(line)}"
        for path in source.texts()
        if path.suffix in endings
        and source.shown(path) not in GENERATED
        and "fixtures" not in path.parts
        for number, line in enumerate(source.text(path).splitlines(), start=1)
        if len(PRAGMA.sub("", line)) > LINE_MAX
    ]
    assert not wide, source.listed(wide)
