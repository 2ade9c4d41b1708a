"""A patch is right when git turns the one tree into the other with it."""

from __future__ import annotations

import random
import subprocess
from pathlib import Path

from blake3 import blake3

from capsem.workspace.patch import patch, quoted
from capsem.workspace.tree import Difference, Node, differences

Contents = dict[str, tuple[str, bytes]]


def lay(root: Path, files: Contents) -> None:
    for path, (kind, content) in files.items():
        place = root / path
        place.parent.mkdir(parents=True, exist_ok=True)
        if kind == "link":
            place.symlink_to(content.decode())
        else:
            place.write_bytes(content)
            place.chmod(0o755 if kind == "program" else 0o644)


def seen(root: Path) -> Contents:
    found: Contents = {}
    for place in root.rglob("*"):
        path = str(place.relative_to(root))
        if place.is_symlink():
            found[path] = ("link", bytes(place.readlink()))
        elif place.is_file() and not path.startswith(".git/"):
            found[path] = ("program" if place.stat().st_mode & 0o100 else "file", place.read_bytes())
    return found


def nodes(files: Contents) -> dict[str, Node]:
    return {
        path: Node("link", 0o777, target=content.decode()) if kind == "link"
        else Node("file", 0o755 if kind == "program" else 0o644, len(content), 0, blake3(content).hexdigest())
        for path, (kind, content) in files.items()
    }  # fmt: skip


def text(before: Contents, after: Contents) -> str:
    return "".join(
        line
        for one in differences(nodes(before), nodes(after))
        for line in patch(one, before.get(one.path, ("", b""))[1], after.get(one.path, ("", b""))[1])
    )


def applied(tmp_path: Path, before: Contents, after: Contents) -> Contents:
    tmp_path.mkdir()
    lay(tmp_path, before)
    given = text(before, after)
    if given:
        subprocess.run(
            ["git", "apply", "-"], cwd=tmp_path, input=given.encode("utf-8", "surrogateescape"), check=True,
            env={"PATH": "/usr/bin:/bin", "GIT_CEILING_DIRECTORIES": str(tmp_path.parent)},
        )  # fmt: skip
    return seen(tmp_path)


def test_git_applies_it(tmp_path: Path) -> None:
    before: Contents = {
        "a": ("file", b"one\ntwo\n"), "gone": ("file", b"x\n"), "empty": ("file", b""), "run": ("file", b"#!\n"),
        "link": ("link", b"a"), "kind": ("file", b"k\n"), "with blank/a b": ("file", b"1\n"), "no end": ("file", b"x"),
        "\u00e9": ("file", b"1\n"), "carriage": ("file", b"a\r\nb\r\n"), "latin": ("file", b"caf\xe9\n"),
    }  # fmt: skip
    after: Contents = {
        "a": ("file", b"one\n2\n"), "run": ("program", b"#!\n"), "link": ("link", b"b"), "kind": ("link", b"a"),
        "with blank/a b": ("file", b"2\n"), "no end": ("file", b"y"), "\u00e9": ("program", b"2\n"),
        "new/x": ("file", b"n"),
        "none": ("file", b""), "carriage": ("file", b"a\r\nc\r\n"), "latin": ("file", b"th\xe9\n"),
        'q"\t': ("file", b"q\n"),
    }  # fmt: skip
    assert applied(tmp_path / "t", before, after) == after


def test_git_applies_what_chance_brings(tmp_path: Path) -> None:
    dice = random.Random(11)

    def some() -> Contents:
        names = dice.sample(["a", "b b", "d/c", "d/e", "\u00fc", "z\ny"], dice.randint(0, 6))
        lines = [b"x\n", b"y\n", b"\n", b"-- a\n", b"+++ b\n", b"tail", b"\x0c\n", b"\xe2\x80\xa8\n"]
        return {
            name: ("link", dice.choice([b"a", b"q"])) if dice.random() < 0.2
            else (dice.choice(["file", "program"]), b"".join(dice.choices(lines, k=dice.randint(0, 9))))
            for name in names
        }  # fmt: skip

    for number in range(40):
        before, after = some(), some()
        assert applied(tmp_path / str(number), before, after) == after


def test_what_is_no_text_is_named_alone_and_the_rest_still_applies(tmp_path: Path) -> None:
    before: Contents = {"bin": ("file", b"\0\1"), "a": ("file", b"1\n")}
    after: Contents = {"bin": ("file", b"\0\2\3"), "a": ("file", b"2\n")}
    assert "# binary or long file changed: bin (2 -> 3 bytes)\n" in text(before, after)
    assert applied(tmp_path / "t", before, after) == {**after, "bin": before["bin"]}
    added = Difference("d", "added", None, Node("directory", 0o755))
    assert list(patch(added, None, None)) == ["# directory added: d/\n"]
    long = Node("file", 0o644, 9, 0, "a" * 64)
    assert "binary or long" in "".join(patch(Difference("x", "added", None, long), None, None))


def test_names_are_quoted_as_git_does() -> None:
    assert quoted("a b") == "a b"
    assert quoted("é") == '"\\303\\251"'
    assert quoted('a"\\\n\t\x07') == '"a\\"\\\\\\n\\t\\007"'
