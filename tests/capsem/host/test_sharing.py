"""Which directories are shared live, and what a share is told of one."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from capsem.errors import UsageError
from capsem.host.sharing import limits, shareable, told
from capsem.vm.settings import Settings, read
from capsem.workspace.guards import Guards
from capsem.workspace.live import Limits


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    place = tmp_path / "home/u"
    place.mkdir(parents=True)
    monkeypatch.setenv("HOME", str(place))
    monkeypatch.setenv("CAPSEM_HOME", str(place / ".capsem"))
    for variable in ("XDG_DATA_HOME", "XDG_STATE_HOME", "XDG_CACHE_HOME", "XDG_CONFIG_HOME", "CAPSEM_CACHE"):
        monkeypatch.delenv(variable, raising=False)
    return place


@pytest.mark.parametrize(
    ("path", "why"),
    [
        ("/", "more than a workspace"), ("/etc", "not a machine's"), ("/usr/lib", "not a machine's"),
        (".", "more than a workspace"), ("..", "the home directory lies in it"), (".capsem", "logs, keys and machines"),
        (".capsem/logs", "logs, keys and machines"), (".local/share/capsule", "logs, keys and machines"),
        (".local/share", "logs, keys and machines"), (".local/state/capsule", "logs, keys"),
        (".ssh", "not a machine's"),
        (".ssh/keys", "not a machine's"), (".config", "logs, keys"), ("link", "logs, keys"), ("none", "no directory"),
    ],
)  # fmt: skip
def test_what_no_machine_is_let_into(home: Path, path: str, why: str) -> None:
    if path not in {"none", "link"} and not path.startswith("/"):
        (home / path).mkdir(parents=True, exist_ok=True)
    (home / ".capsem").mkdir(exist_ok=True)
    (home / "link").symlink_to(home / ".capsem")
    with pytest.raises(UsageError, match=why):
        shareable(str(home / path))


def test_a_project_is_shared(home: Path) -> None:
    (home / "work/project").mkdir(parents=True)
    (home / "short").symlink_to("work/project")
    root = shareable(str(home / "short"))
    assert root == (home / "work/project").resolve()
    about = json.loads(json.dumps(told(root, Limits(files=7))))
    assert about["directory"] == str(root)
    assert about["identity"] == [root.stat().st_dev, root.stat().st_ino]
    assert Limits(**about["limits"]) == Limits(files=7)
    guards = Guards.of_told(about["guards"])
    assert guards.kept(".git/hooks/x") is not None
    assert guards.withheld(".env") is not None
    assert guards.kept("src/a.py") is None


def test_a_link_that_took_its_place_is_not(home: Path) -> None:
    (home / "project").mkdir()
    (home / "other").mkdir()
    root = shareable(str(home / "project"))
    root.rmdir()
    root.symlink_to(home / "other")
    with pytest.raises(UsageError, match="a link stands there now"):
        told(root, Limits())


def test_the_policy_of_the_directory_holds(home: Path) -> None:
    project = home / "project"
    project.mkdir()
    (project / "capsule.yaml").write_text(
        "version: 1\nname: mine\nextends: [workspace]\nfilesystem:\n  deny: [./private]\n  protect: [./vendor]\n"
    )
    guards = Guards.of_told(told(shareable(str(project)), Limits())["guards"])
    assert guards.withheld("private/x") is not None
    assert guards.kept("vendor/x") is not None


def test_settings_say_how_much(home: Path) -> None:
    text = '[share]\nfiles = 12\nsize = "64M"\nhandles = 99\n'
    found = limits(Settings(None, read(text, "settings.toml")))
    assert found == Limits(files=12, size=64 << 20, open_files=99)
    assert limits(Settings(None, None)) == Limits()
