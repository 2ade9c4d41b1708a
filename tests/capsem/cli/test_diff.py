from __future__ import annotations

import json
from pathlib import Path

import pytest

from capsem.cli.diff import as_builtins, line, shown
from capsem.cli.main import main
from capsem.host.objects import Objects
from capsem.workspace.tree import Difference, Node, differences


def kept(objects: Objects, content: bytes) -> Node:
    with objects.writer() as writer:
        writer.write(content)
        return Node("file", 0o644, len(content), 0, writer.keep())


def test_differences_as_a_patch_as_lines_and_as_json(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    objects = Objects(tmp_path)
    before = {"a": kept(objects, b"one\n"), "l": Node("link", 0o777, target="x")}
    after = {
        "a": kept(objects, b"two\n"),
        "l": Node("link", 0o777, target="y"),
        "d": Node("directory", 0o755),
    }
    changed = [*differences(before, after), Difference("fifo", "added", None, None)]
    shown(changed, objects, stat=False, as_json=False)
    assert capsys.readouterr().out == (
        "diff --git a/a b/a\n--- a/a\n+++ b/a\n@@ -1 +1 @@\n-one\n+two\n# directory added: d/\n"
        "diff --git a/l b/l\n--- a/l\n+++ b/l\n@@ -1 +1 @@\n-x\n\\ No newline at end of file\n+y\n"
        "\\ No newline at end of file\n# neither file, directory nor link, never taken over: 'fifo'\n"
    )
    shown(changed, objects, stat=True, as_json=False)
    assert capsys.readouterr().out == "M a\nA d/\nM l -> y\n! fifo   never taken over\n"
    shown(changed, objects, stat=False, as_json=True)
    told = [json.loads(each) for each in capsys.readouterr().out.splitlines()]
    assert told[0]["path"] == "a"
    assert told[0]["before"]["digest"] == before["a"].digest
    assert told[3] == {"path": "fifo", "action": "added", "before": None, "after": None}


def test_a_name_cannot_drive_the_terminal(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    one = Difference("a\x1b[2J\n\udcff", "added", None, Node("directory", 0o755))
    shown([one], Objects(tmp_path), stat=True, as_json=False)
    out = capsys.readouterr().out
    assert out == "A a\\x1b[2J\\x0a\\xff/\n"
    assert "m a  mode 644 -> 755" in line(
        Difference("a", "mode", Node("file", 0o644, digest="a" * 64), Node("file", 0o755, digest="a" * 64))
    )
    assert as_builtins(one)["path"] == one.path


def test_a_machine_that_is_not_there(capsem_home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for verb in ("diff", "apply"):
        with pytest.raises(SystemExit) as ended:
            main([verb, "nothing"])
        assert ended.value.code == 1
        assert "no machine named 'nothing'" in capsys.readouterr().err
