"""Every bad template is refused with its file, its line and a way out, in bounded time."""

from pathlib import Path
from typing import Any

import pytest

from tasker_zmq.templates import load_file, load_folder, load_mapping, load_text

HEAD = "name: t\nsteps:\n"
A = "  - name: a\n    handler: {callable: h}\n"  # stands on lines 3 and 4 after HEAD
OLDER = "name: t\nstep_templates:\n  - name: a\n    handler_class: h\n"

REFUSALS: list[tuple[str, str, int, str]] = [
    ("syntax", HEAD + A + "m: [1\n", 6, "no YAML"),
    ("a tab", "name: t\n\tsteps: 1\n", 2, "no YAML"),
    ("a control character", HEAD + A + "m: \x01\n", 5, "U+0001"),
    ("a second document", "# c\n---\n" + HEAD + A + "---\nname: u\n", 7, "a second YAML document"),
    ("no document", "# nothing\n", 1, "no document"),
    ("a list", "- a\n", 1, "a template is a mapping, found a list"),
    ("a tag", HEAD + A + "m: !!python/name:os.system x\n", 5, "is not read here"),
    ("an alias of nothing", HEAD + A + "m: *b\n", 5, "alias '*b' names no anchor"),
    ("an alias of itself", HEAD + A + "m: &m [*m]\n", 5, "alias '*m' names no anchor"),
    ("a repeated key", HEAD + A + "    timeout_seconds: 1\n    timeout_seconds: 2\n", 6,
     "the key 'timeout_seconds' stands twice in one mapping, first on line 5"),
    ("a mapping as key", HEAD + A + "? {a: 1}\n: 2\n", 5, "keys are texts"),
    ("not a number", HEAD + A + "m:\n  x: .nan\n", 6, "'m.x': nan is not a JSON number"),
    ("a huge number", HEAD + A + "m: 99999999999999999999\n", 5, "above 64 bits"),
    ("NUL", HEAD + A + 'm: "a\\0"\n', 5, "NUL"),
    ("no steps", "name: t\nversion: 1.0.0\n", 1, "wants 'steps' (or 'step_templates')"),
    ("misspelt steps", "name: t\nstep_template: []\n", 1, "did you mean 'step_templates'?"),
    ("empty steps", "name: t\nsteps: []\n", 2, "'steps' is empty"),
    ("steps of null", "name: t\nsteps:\n", 2, "'steps' is empty"),
    ("steps in a mapping", "name: t\nsteps: {a: 1}\n", 2, "'steps' is a mapping; it wants a list"),
    ("a step that is text", HEAD + "  - a\n", 3, "wants a mapping, found the text 'a'"),
    ("no name", "steps:\n  - name: a\n    handler: {callable: h}\n", 1, "'name' is missing"),
    ("an empty name", 'name: ""\nsteps:\n' + A, 1, "'name' is an empty text"),
    ("an empty part in the name", "version: 1.0.0\nname: a//b\nsteps:\n" + A, 2, "a name"),
    ("an at in the namespace", "name: t\nnamespace: a@b\nsteps:\n" + A, 2, "it wants a name"),
    ("two namespaces", "name: t\nnamespace: a\nnamespace_name: b\nsteps:\n" + A, 2, "differ"),
    ("a true version", "name: t\nversion: true\nsteps:\n" + A, 2, "'version' is true; it wants"),
    ("a nameless step", HEAD + "  - handler: {callable: h}\n", 3, "step 1: 'name' is missing"),
    ("a step with a bad name", HEAD + "  - name: 1a\n    handler: {callable: h}\n", 3, "'1a'"),
    ("a repeated step", HEAD + A + A, 5, "step 'a': the name is taken by step 1"),
    ("no handler", HEAD + "  - name: a\n", 3, "step 'a': no handler"),
    ("a handler as text", HEAD + "  - name: a\n    handler: h\n", 4, "'handler' is the text 'h'"),
    ("a bad handler", HEAD + "  - name: a\n    handler: {callable: rm -rf}\n", 4, "'rm -rf'"),
    ("an unknown parent", HEAD + A + "  - name: b\n    handler: {callable: h}\n"
     "    dependencies:\n      - aa\n", 8,
     "step 'b': depends on 'aa', which is no step here; did you mean 'a'?"),
    ("itself as parent", HEAD + A + "    dependencies: [a]\n", 5, "step 'a': depends on itself"),
    ("a circle", HEAD + A + "    dependencies: [b]\n  - name: b\n    handler: {callable: h}\n"
     "    dependencies: [a]\n", 3, "in a circle: a -> b -> a;"),
    ("a text as parents", HEAD + A + "    dependencies: a\n", 5, "it wants a list of step names"),
    ("negative tries", HEAD + A + "    retry: {max_attempts: -1}\n", 5, "from 0 to 101"),
    ("many tries", HEAD + A + "    retry:\n      max_attempts: 102\n", 6, "'max_attempts' is 102"),
    ("tries in words", HEAD + A + "    retry: {limit: three}\n", 5, "a whole number"),
    ("tries told twice", HEAD + A + "    retry: {max_attempts: 3, limit: 4}\n", 5, "differ"),
    ("an unknown backoff", HEAD + A + "    retry: {backoff: cubic}\n", 5, "one of exponential"),
    ("a backoff of days", HEAD + A + "    retry: {backoff_base_ms: 86400001}\n", 5, "86400000"),
    ("a low ceiling", HEAD + A + "    retry: {backoff_base_ms: 9, max_backoff_ms: 8}\n", 3,
     "the longest backoff (8 ms) is shorter than the first (9 ms)"),
    ("a timeout of zero", HEAD + A + "    timeout_seconds: 0\n", 5, "above 0 and up to 604800"),
    ("a timeout of weeks", HEAD + A + "    timeout_seconds: 604801\n", 5, "up to 604800"),
    ("a timeout of truth", HEAD + A + "    timeout_seconds: yes\n", 5, "is true; it wants"),
    ("a schema of text", "name: t\ninput_schema: object\nsteps:\n" + A, 2, "it wants a mapping"),
    ("no JSON Schema", "name: t\ninput_schema:\n  properties:\n    x:\n      type: strin\nsteps:\n"
     + A, 5, "'input_schema' is no valid JSON Schema at properties.x.type"),
    ("a distant reference", "name: t\ninput_schema:\n  $ref: http://x/y\nsteps:\n" + A, 3,
     "leads out of the template"),
    ("a dangling reference", "name: t\ninput_schema:\n  $ref: '#/$defs/x'\nsteps:\n" + A, 3,
     "'#/$defs/x' names nothing"),
    ("both dialects", HEAD + A + "step_templates: []\n", 5, "belong to two dialects"),
    ("an older schema", HEAD + A + "schema: {type: object}\n", 5, "write 'input_schema'"),
    ("an older step", HEAD + A + "    depends_on_step: b\n", 5, "write 'dependencies'"),
    ("older retries", HEAD + A + "    retry: {retry_limit: 2}\n", 5, "so one more"),
    ("a newer step", OLDER + "    retry: {max_attempts: 2}\n", 5, "write 'default_retryable'"),
    ("a newer schema", OLDER + "input_schema: {type: object}\n", 5, "write 'schema'"),
    ("many retries", OLDER + "    default_retry_limit: 101\n", 5, "from 0 to 100"),
    ("an unknown older parent", OLDER + "    depends_on_step: b\n", 5, "depends on 'b'"),
    ("a wrong list of names", "named_steps: [a, b]\n" + OLDER, 1, "lists 'b', which is no step"),
    ("a short list of names", "named_steps: []\n" + OLDER, 1, "does not list the step 'a'"),
    ("an unknown override", HEAD + A + "environments:\n  live:\n    steps:\n      - name: aa\n", 8,
     "overrides the text 'aa', which is no step here; did you mean 'a'?"),
    ("a bad override elsewhere", HEAD + A + "environments:\n  live:\n    steps:\n      - name: a\n"
     "        timeout_seconds: -1\n", 9, "environment 'live', step 'a': 'timeout_seconds' is -1"),
    ("an override of the graph", HEAD + A + "environments:\n  live:\n    step_overrides:\n"
     "      a: {dependencies: [b]}\n", 8, "an environment cannot change"),
    ("a repeated override", HEAD + A + "environments:\n  live:\n    steps:\n      - name: a\n"
     "      - name: a\n", 9, "overridden twice"),
]  # fmt: skip


@pytest.mark.parametrize(
    ("text", "line", "fragment"),
    [case[1:] for case in REFUSALS],
    ids=[case[0] for case in REFUSALS],
)
def test_a_bad_template_is_refused_at_its_line(text: str, line: int, fragment: str) -> None:
    loaded = load_text(text, source="bad.yaml", environment="test")
    assert loaded.template is None
    messages = [str(problem) for problem in loaded.problems]
    assert any(
        message.startswith(f"bad.yaml:{line}: ") and fragment in message for message in messages
    ), messages


def test_all_problems_of_a_file_are_told_at_once() -> None:
    text = HEAD + A + "    timeout_seconds: 0\n  - name: b\n    dependencies: [c]\nversion: ''\n"
    loaded = load_text(text, source="bad.yaml", environment="test")
    assert sorted(problem.line or 0 for problem in loaded.problems) == [5, 6, 7, 8]


def test_problems_of_a_mapping_have_a_path_and_no_line() -> None:
    step = {"name": "a", "handler": {"callable": "h"}, "retry": {"max_attempts": "many"}}
    loaded = load_mapping({"name": "t", "steps": [step]}, source="wire", environment="test")
    (problem,) = loaded.problems
    assert (problem.line, problem.path) == (None, "steps[0].retry.max_attempts")
    assert str(problem).startswith("wire: step 'a': 'max_attempts' is the text 'many'; it wants")


def test_a_long_circle_is_told_in_short() -> None:
    steps = [
        {"name": f"s{i}", "handler": {"callable": "h"}, "dependencies": [f"s{(i - 1) % 500}"]}
        for i in range(500)
    ]
    loaded = load_mapping({"name": "t", "steps": steps}, source="wire", environment="test")
    assert "s0 -> s1 -> " in loaded.problems[0].message
    assert "(481 more)" in loaded.problems[0].message


def _nested(depth: int) -> dict[str, Any]:
    value: dict[str, Any] = {}
    for _ in range(depth):
        value = {"a": value}
    return value


@pytest.mark.parametrize(
    ("value", "fragment"),
    [
        (_nested(70), "nested more than 64 levels"),
        ({1: "one"}, "keys are texts, found 1"),
        (2**64, "above 64 bits"),
        (float("inf"), "inf is not a JSON number"),
        ("\ud800", "half of a surrogate pair"),
        ("a\0", "NUL"),
        (b"bytes", "bytes is not a JSON value"),
    ],
    ids=["deep", "key", "whole", "inf", "surrogate", "nul", "bytes"],
)
def test_a_mapping_that_is_no_bearable_json_is_refused(value: object, fragment: str) -> None:
    mapping = {
        "name": "t",
        "steps": [{"name": "a", "handler": {"callable": "h"}}],
        "metadata": {"x": value},
    }
    loaded = load_mapping(mapping, source="wire", environment="test")
    assert loaded.template is None
    assert fragment in loaded.problems[0].message
    assert loaded.problems[0].path.startswith("metadata")


BOMBS = {
    "aliases": (
        "a0: &a0 [x,x,x,x,x,x,x,x,x,x]\n"
        + "".join(f"a{i}: &a{i} [{','.join([f'*a{i - 1}'] * 10)}]\n" for i in range(1, 30)),
        "more than 600000 values",
    ),
    "long aliases": (
        "s: &s " + "y" * 500_000 + "\nl: [" + ",".join(["*s"] * 5_000) + "]\n",
        "more than 16777216 characters",
    ),
    "merges": (
        "a: &a {"
        + ",".join(f"k{i}: 1" for i in range(2_000))
        + "}\n"
        + "".join(f"b{i}: {{<<: *a}}\n" for i in range(2_000)),
        "merges more than 10000 keys",
    ),
    "depth": ("m: " + "[" * 500_000, "nested more than 64 levels"),
    "depth in blocks": ("".join(" " * i + "a:\n" for i in range(500)), "nested more than 64"),
    "bytes": ("m: " + "x" * (4 * 1024 * 1024), "longer than 4194304 bytes"),
    "override of every step": (
        "name: t\nsteps:\n"
        + "".join(f"  - {{name: s{i}, handler: {{callable: h}}}}\n" for i in range(500))
        + "environments: {live: {steps: [{name: ALL, handler: {initialization: {"
        + ",".join(f"k{i}: 1" for i in range(2_000))
        + "}}}]}}\n",
        "too large to be given to every step",
    ),
}


@pytest.mark.parametrize(("text", "fragment"), BOMBS.values(), ids=BOMBS)
def test_hostile_yaml_is_refused_before_it_costs_much(text: str, fragment: str) -> None:
    loaded = load_text(text, source="bomb.yaml", environment="test")
    assert loaded.template is None
    assert fragment in loaded.problems[0].message


def test_more_than_ten_thousand_steps_are_refused() -> None:
    steps = [{"name": f"s{i}", "handler": {"callable": "h"}} for i in range(10_001)]
    loaded = load_mapping({"name": "t", "steps": steps}, source="wire", environment="test")
    assert [problem.path for problem in loaded.problems] == ["steps"]
    assert "at most 10000" in loaded.problems[0].message


def test_a_file_with_very_many_problems_tells_a_hundred_and_says_so() -> None:
    steps = [
        {"name": f"s{i}", "handler": {"callable": "h"}, "dependencies": [f"t{i}"]}
        for i in range(300)
    ]
    loaded = load_mapping({"name": "t", "steps": steps}, source="wire", environment="test")
    assert len(loaded.problems) == 101
    assert "not more than 100 problems" in loaded.problems[-1].message


def test_a_file_that_cannot_be_read_is_a_problem(tmp_path: Path) -> None:
    latin = tmp_path / "latin.yaml"
    latin.write_bytes(b"name: t\ndescription: caf\xe9\n")
    (missing,) = load_file(tmp_path / "none.yaml", environment="test").problems
    (undecoded,) = load_file(latin, environment="test").problems
    (no_folder,) = load_folder(tmp_path / "none", environment="test")[0].problems
    assert "no such file" in missing.message
    assert (undecoded.line, "UTF-8" in undecoded.message) == (2, True)
    assert "no such folder" in no_folder.message
