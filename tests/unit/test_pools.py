"""What a pool says it runs, and what its worker then declares."""

from pathlib import Path

import pytest

from tasker_zmq.protocol.commands import SupportedTask
from tasker_zmq.worker.targets import TargetError, load_targets, supported_tasks, templates_of

CODE = """
from tasker_zmq import step, workflow

@step
def pack(): ...

fulfil = workflow("shop/own@1.0.0", pack)
"""


def declared(folder: Path, said: str, *, exclusive: bool = False) -> dict[str, SupportedTask]:
    """What a worker of that pool declares, by full name; with `!` in front if exclusively."""
    (folder / f"code_of_{folder.name}.py").write_text(CODE)
    pool = folder / "pool.yaml"
    pool.write_text(f"files: [code_of_{folder.name}.py]\n{said}")
    loaded = load_targets([str(pool)])
    alone = exclusive or bool(loaded.exclusive)
    templates = templates_of(loaded, environment="test")
    sign = "!" if alone else ""
    return {
        f"{sign}{each.namespace}/{each.name}@{each.version}": each
        for each in supported_tasks(loaded, templates, exclusive=alone)
    }


def test_without_a_word_a_pool_knows_its_own_workflows_and_takes_any_step(tmp_path: Path) -> None:
    assert list(declared(tmp_path, "")) == ["shop/own@1.0.0"]


def test_tasks_are_exclusive_and_exactly_those(tmp_path: Path) -> None:
    found = declared(tmp_path, "tasks: [shop/orders@1.2.0, 'shop/refunds@*']\n")
    assert list(found) == ["!shop/orders@1.2.0", "!shop/refunds@*"]


def test_tasks_may_be_a_mere_note_of_priority_and_configuration(tmp_path: Path) -> None:
    said = (
        "exclusive: false\n"
        "tasks: [{task: shop/own@1.0.0, priority: 200, configuration: {region: eu}}]\n"
    )
    (own,) = declared(tmp_path, said).values()
    assert (own.priority, own.configuration) == (200, {"region": "eu"})
    assert list(declared(tmp_path, said)) == ["shop/own@1.0.0"]


def test_exclusive_without_tasks_means_its_own_workflows(tmp_path: Path) -> None:
    assert list(declared(tmp_path, "exclusive: true\n")) == ["!shop/own@1.0.0"]
    assert list(declared(tmp_path, "", exclusive=True)) == ["!shop/own@1.0.0"]


@pytest.mark.parametrize(
    ("said", "complaint"),
    [
        ("tasks: [shop/orders]\n", "'shop/orders' is no workflow; wanted namespace/name@version"),
        ("tasks: [orders@1]\n", "'orders@1' is no workflow"),
        ("tasks: [{task: a/b@1, priority: 9999999}]\n", "from -1000000 to 1000000 is possible"),
        ("tasks: [{tusk: a/b@1}]\n", "tusk"),
    ],
)
def test_what_cannot_be_meant_is_explained(tmp_path: Path, said: str, complaint: str) -> None:
    with pytest.raises(TargetError, match=complaint):
        declared(tmp_path, said)


def test_a_worker_that_could_never_get_work_is_refused(tmp_path: Path) -> None:
    (tmp_path / "only.py").write_text("from tasker_zmq import step\n@step\ndef pack(): ...\n")
    loaded = load_targets([str(tmp_path / "only.py")])
    with pytest.raises(TargetError, match="would never get work"):
        supported_tasks(loaded, (), exclusive=True)
