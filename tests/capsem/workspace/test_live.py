"""What a live share may do, by names and amounts; what a guest's kernel knows."""

from __future__ import annotations

import errno

import pytest

from capsem.workspace.guards import PRESETS, Guards
from capsem.workspace.live import Budget, Limits, Nodes, unmade
from capsule.cli.files import load_policy

GUARDS = Guards("/p", "/home/u", [load_policy(name) for name in PRESETS])


@pytest.mark.parametrize(
    ("path", "free"),
    [
        ("src/a.py", True), (".git/index", True), (".gitignore", True), ("a/capsule.yaml", True),
        (".git", False), ("a/.GIT", False), (".git/hooks/x", False), ("a/.git/config", False),
        ("capsule.yaml", False), (".env", False), (".vscode/x/y", False),
    ],
)  # fmt: skip
def test_names_that_are_made(path: str, free: bool) -> None:
    assert (unmade(GUARDS, path) is None) == free
    again = Guards.of_told(GUARDS.told())
    assert unmade(again, path) == unmade(GUARDS, path)


def test_growth_is_limited_and_given_back() -> None:
    budget = Budget(Limits(files=2, size=10))
    budget.name()
    budget.name()
    with pytest.raises(OSError, match="EDQUOT"):
        budget.name()
    budget.grow(0, 10)
    with pytest.raises(OSError, match="EDQUOT"):
        budget.grow(10, 11)
    budget.grow(10, 4)
    budget.grow(4, 9)
    assert budget.size == 9


def test_a_node_follows_its_name() -> None:
    nodes = Nodes(most=10)
    src = nodes.told(nodes.root, "src")
    file = nodes.told(src, "a")
    assert nodes.path(file) == "src/a"
    nodes.moved(nodes.root, "src", nodes.root, "lib")
    assert nodes.path(file) == "lib/a"
    other = nodes.told(src, "b")
    assert nodes.moved(src, "a", src, "b") is other
    assert (nodes.path(file), other.gone) == ("lib/b", True)
    with pytest.raises(OSError, match="ENOENT"):
        nodes.path(other)
    nodes.removed(nodes.root, "lib")
    with pytest.raises(OSError, match="ENOENT"):
        nodes.path(file)


def test_what_is_forgotten_is_gone_once_nothing_needs_it() -> None:
    nodes = Nodes(most=4)
    src = nodes.told(nodes.root, "src")
    file = nodes.told(src, "a")
    nodes.told(src, "a")
    with pytest.raises(OSError, match="ENFILE"):
        nodes.told(nodes.told(src, "b"), "c")
    nodes.forgotten(src.number, 1)
    assert nodes.path(file) == "src/a", "what lies below keeps it"
    nodes.forgotten(file.number, 1)
    nodes.forgotten(file.number, 1 << 63)
    nodes.forgotten(99, 1)
    nodes.forgotten(1, 1)
    assert len(nodes) == 3
    nodes.forgotten(4, 1)
    assert len(nodes) == 1
    with pytest.raises(OSError, match="ESTALE"):
        nodes.get(file.number)
    assert nodes.get(1) is nodes.root


def test_an_open_file_is_kept() -> None:
    nodes = Nodes(most=4)
    file = nodes.told(nodes.root, "a")
    file.handles.append(1)
    nodes.forgotten(file.number, 1)
    assert nodes.get(file.number) is file
    file.handles.clear()
    nodes.closed(file)
    assert len(nodes) == 1


def test_errors_are_errnos() -> None:
    with pytest.raises(OSError, match="ESTALE") as error:
        Nodes(most=1).get(7)
    assert error.value.errno == errno.ESTALE
