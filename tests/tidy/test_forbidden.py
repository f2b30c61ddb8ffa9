"""Nothing that arrives is ever run, unpickled, or imported by its name."""

import ast
from pathlib import Path

import pytest

from tests.tidy import source

MODULES = {"pickle", "cPickle", "dill", "cloudpickle", "marshal", "shelve"}
CALLS = {"eval", "exec", "compile", "__import__"}
# A loader of ours is used as an object: what it reads stays in sight, and so does its parent.
YAML_LOADERS = {"load", "load_all", "unsafe_load", "full_load", "unsafe_load_all", "full_load_all"}
UNSAFE_YAML = {"Loader", "FullLoader", "UnsafeLoader"}
# Only those that are told by the person who starts a process what to import.
MAY_IMPORT_BY_NAME = ("tasker_zmq/worker/targets.py", "tasker_zmq/cli/")
IMPORTING = {"import_module", "run_path", "run_module", "spec_from_file_location"}


def findings(tree: ast.AST, *, may_import_by_name: bool) -> list[str]:
    """What is forbidden in `tree`, with its line."""
    return [
        f"{getattr(node, 'lineno', 0)} {word}"
        for node in ast.walk(tree)
        if (word := _imported(node) or _called(node) or _subclassed(node))
        and not (may_import_by_name and word in IMPORTING)
    ]


def _imported(node: ast.AST) -> str | None:
    match node:
        case ast.Import(names=aliases):
            found = {alias.name.partition(".")[0] for alias in aliases} & MODULES
            return next(iter(found), None)
        case ast.ImportFrom(module=str(module)) if module.partition(".")[0] in MODULES:
            return module
    return None


def _called(node: ast.AST) -> str | None:
    match node:
        case ast.Call(func=ast.Name(id=name)) if name in CALLS | IMPORTING:
            return name
        case ast.Call(func=ast.Attribute(value=ast.Name(id="yaml"), attr=name)) if (
            name in YAML_LOADERS
        ):
            return f"yaml.{name}"
        case ast.Call(func=ast.Attribute(attr=name)) if name in IMPORTING:
            return name
        case ast.keyword(arg="shell", value=ast.Constant(value=True)):
            return "shell=True"
    return None


def _subclassed(node: ast.AST) -> str | None:
    match node:
        case ast.Attribute(value=ast.Name(id="yaml"), attr=name) if name in UNSAFE_YAML:
            return f"yaml.{name}"
        case ast.ClassDef(bases=bases) if any(_is_unsafe_loader(base) for base in bases):
            return "a loader that is not safe"
    return None


def _is_unsafe_loader(base: ast.expr) -> bool:
    name = base.attr if isinstance(base, ast.Attribute) else getattr(base, "id", "")
    return name in UNSAFE_YAML


def may_import_by_name(path: Path) -> bool:
    return source.shown(path).startswith(MAY_IMPORT_BY_NAME)


def test_no_code_of_ours_can_be_made_to_run_what_arrives() -> None:
    found = [
        f"{source.shown(path)}:{finding}"
        for path in source.python("tasker_zmq", "workers", "alembic")
        for finding in findings(source.tree(path), may_import_by_name=may_import_by_name(path))
    ]
    assert not found, source.listed(found)


@pytest.mark.parametrize(
    "line",
    [
        "import pickle",
        "from pickle import loads",
        "eval('1')",
        "exec(compile(text, 'x', 'exec'))",
        "yaml.load(text)",
        "yaml.load(text, Loader=yaml.FullLoader)",
        "yaml.unsafe_load(text)",
        "class Ours(yaml.Loader): ...",
        "importlib.import_module(step.handler_class)",
        "from importlib import import_module; import_module(name)",
        "__import__(name)",
        "runpy.run_path(name)",
        "subprocess.run(command, shell=True)",
        "import marshal",
    ],
)
def test_the_search_finds_each_way_to_do_it(line: str) -> None:
    assert findings(ast.parse(line), may_import_by_name=False) != []


@pytest.mark.parametrize(
    "line", ["yaml.safe_load(text)", "class Ours(yaml.SafeLoader): ...", "json.loads(text)"]
)
def test_the_search_leaves_safe_ways_alone(line: str) -> None:
    assert findings(ast.parse(line), may_import_by_name=False) == []
