from __future__ import annotations

import json

import pytest

from capsem.errors import RecipeError
from capsem.vm.recipe import absolute, parse
from tests.architecture.sources import ROOT

HEAD = 'version = 1\nname = "x"\nsuite = "bookworm"\nepoch = 2025-11-01T00:00:00Z\n'
LOCK = json.dumps({
    "lockfileVersion": 3,
    "packages": {
        "": {"dependencies": {"@a/b": "1.2.3"}},
        "node_modules/@a/b": {"version": "1.2.3", "integrity": "sha512-" + "A" * 86 + "=="},
    },
})  # fmt: skip


def test_a_whole_recipe() -> None:
    recipe = parse(
        HEAD
        + """
packages = ["python3", "git", "python3-pip"]
npm = { "@a/b" = "1.2.3" }
npm_lock = "x.npm.json"
pypi = { rich = "14.2" }
environment = { LANG = "C.UTF-8" }
users = [{ name = "agent", uid = 1000 }]
files = [{ path = "/etc/motd", text = "hello", mode = "0444" }]
""",
        "x.toml",
        {"x.npm.json": LOCK}.__getitem__,
    )
    assert recipe.npm_lock == LOCK
    assert recipe.epoch == 1_761_955_200
    assert recipe.packages == ("git", "python3", "python3-pip")
    assert recipe.users[0].home == "/home/agent"
    assert recipe.files[0].permissions == 0o444


def test_the_digest_is_of_the_meaning() -> None:
    one = parse(HEAD + 'packages = ["a1", "b1"]', "x")
    other = parse("# words\n" + HEAD + 'packages = [\n"b1",\n"a1"]', "y")
    assert one.digest() == other.digest()
    assert one.digest() != parse(HEAD + 'packages = ["a1"]', "x").digest()


@pytest.mark.parametrize("name", ["default", "minimal", "agents"])
def test_the_recipes_that_come_along(name: str) -> None:
    folder = ROOT / "capsem/guest"

    def beside(file: str) -> str:
        return (folder / file).read_text(encoding="utf-8")

    recipe = parse(beside(f"{name}.toml"), name, beside)
    assert recipe.name == name
    assert recipe.users[0].uid == 1000
    assert recipe.environment["PATH"].split(":")[-1] == "/bin"


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("=", "no TOML"),
        (HEAD.replace("2025-11-01T00:00:00Z", "5"), "epoch"),
        (HEAD.replace("00Z", "00"), "epoch"),
        (HEAD.replace("version = 1", "version = 2"), "version"),
        (HEAD.replace('"x"', '"X"'), "cannot name"),
        (HEAD + "more = 1", "unknown field `more`"),
        (HEAD + 'packages = ["a;b"]', "no name of a Debian package"),
        (HEAD + 'packages = ["-o=x"]', "no name of a Debian package"),
        (HEAD + 'packages = ["aa", "aa"]', "aa is there twice"),
        (HEAD + 'suite = "x"', "no TOML"),
        (HEAD.replace("bookworm", "book worm"), "no name of a Debian release"),
        (HEAD + 'npm = { a = "^1" }', "no exact version"),
        (HEAD + 'npm = { "a/../b" = "1" }', "no name of a package"),
        (HEAD + 'npm = { a = "1" }', "name the file of its lock"),
        (HEAD + 'npm_lock = "x"', "no lock without npm"),
        (HEAD + 'npm = { a = "1" }\nnpm_lock = "x"', "of other packages"),
        (HEAD + 'npm_lock = "../x"', "no name of a file beside"),
        (HEAD + "npm_lock = 5", "no name of a file beside"),
        (HEAD + 'pypi = { a = "1" }', "add 'python3'"),
        (HEAD + 'environment = { "A B" = "1" }', "no name of a variable"),
        (HEAD + 'environment = { A = "1\\n2" }', "more than one line"),
        (HEAD + 'users = [{ name = "root", uid = 0 }]', "uid"),
        (HEAD + 'users = [{ name = "a:b", uid = 1000 }]', "no name of a user"),
        (HEAD + 'users = [{ name = "a", uid = 1000, home = "/../x" }]', "absolute"),
        (HEAD + 'users = [{ name = "a", uid = 1000 }, { name = "b", uid = 1000 }]', "1000 is there twice"),
        (HEAD + 'users = [{ name = "root", uid = 1000 }]', "root is a user or a group of Debian's"),
        (HEAD + 'files = [{ path = "/capsem/capsem-agent", text = "" }]', "has its own there"),
        (HEAD + 'files = [{ path = "/usr/local/bin/capsem", text = "" }]', "has its own there"),
        (HEAD + 'files = [{ path = "/tmp/x", text = "" }]', "would not be seen"),
        (HEAD + 'files = [{ path = "/etc/shadow", text = "" }]', "made of users"),
        (HEAD + 'files = [{ path = "/a/b", text = "" }, { path = "/a", text = "" }]', "/a/b is below it"),
        (
            HEAD
            + 'users = [{ name = "a", uid = 1000, home = "/x/a" }]\nfiles = [{ path = "/x", text = "" }]',
            "/x/a is below it",
        ),
        (HEAD + 'files = [{ path = "etc/x", text = "" }]', "no absolute path"),
        (HEAD + 'files = [{ path = "/etc/../x", text = "" }]', "no absolute path"),
        (HEAD + 'files = [{ path = "/x", text = "", mode = "4755" }]', "setuid"),
        (HEAD + 'files = [{ path = "/x", text = "" }, { path = "/x", text = "" }]', "/x is there twice"),
    ],
)
def test_what_is_refused_names_the_key(text: str, words: str) -> None:
    with pytest.raises(RecipeError, match=words) as refused:
        parse(text, "x.toml", lambda _: LOCK)
    assert refused.value.exit_code == 2, "whoever wrote it corrects it"


def test_a_lock_needs_a_place_beside() -> None:
    with pytest.raises(RecipeError, match="no file beside it"):
        parse(HEAD + 'npm = { a = "1" }\nnpm_lock = "x"', "x.toml")


@pytest.mark.parametrize(
    ("path", "good"),
    [("/a", True), ("/a/b.c", True), ("/", False), ("", False), ("a", False), ("/a/", False), ("/a:b", False),
     ("/a//b", False), ("/./a", False), ("/a\nb", False)],
)  # fmt: skip
def test_absolute_paths(path: str, good: bool) -> None:
    assert absolute(path) is good
