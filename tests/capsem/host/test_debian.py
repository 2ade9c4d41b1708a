from __future__ import annotations

import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest

from capsem.errors import ImageError
from capsem.host import commands, debian, npm
from capsem.host.progress import Silent
from capsem.vm.image import Package
from capsem.vm.recipe import parse
from tests.capsem.vm.test_npm_lock import lock

RECIPE = parse(
    """version = 1
name = "x"
suite = "bookworm"
epoch = 2025-11-01T00:00:00Z
packages = ["git"]
npm = { "@a/b" = "1.0.0" }
npm_lock = "x"
""",
    "x",
    lambda _: lock({"@a/b": "1.0.0"}),
)


class Recorder:
    """Stands where mmdebstrap is started, and keeps how."""

    def __init__(self) -> None:
        self.arguments: list[str] = []
        self.environment: dict[str, str] = {}

    def __call__(self, arguments: list[str | Path], *, environment: dict[str, str], **_: object) -> str:
        self.arguments = [str(argument) for argument in arguments]
        self.environment = environment
        return ""


def test_what_mmdebstrap_is_asked_for(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    started = Recorder()
    monkeypatch.setattr(commands, "run", started)
    monkeypatch.setattr(npm, "install", lambda recipe, room, progress: room / "npm.tar")
    monkeypatch.setattr("os.geteuid", lambda: 0)
    lock = (Package(kind="deb", name="git", version="1:2.39"), Package(kind="npm", name="x", version="1"))
    debian.bootstrap(RECIPE, tmp_path / "root.tar", Silent(), lock)
    assert started.arguments[0] == "mmdebstrap"
    assert started.arguments[-2:] == ["bookworm", str(tmp_path / "root.tar")]
    assert "--include=git" in started.arguments
    room = Path(started.environment.pop("TMPDIR"))
    assert started.environment == {"SOURCE_DATE_EPOCH": "1761955200"}
    assert room.name.startswith("capsem-build-")
    assert not room.exists(), "it goes with the build"
    assert (tmp_path / "pins").read_text() == "Package: git\nPin: version 1:2.39\nPin-Priority: 1001\n\n"
    assert f"--customize-hook=tar-in {tmp_path}/npm.tar /" in started.arguments


def test_pip_trusts_whom_the_host_trusts(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    started = Recorder()
    monkeypatch.setattr(commands, "run", started)
    monkeypatch.setattr("os.geteuid", lambda: 0)
    authorities = tmp_path / "its authorities.pem"
    authorities.write_text("x")
    monkeypatch.setenv("PIP_CERT", str(authorities))
    recipe = msgspec.structs.replace(RECIPE, npm={}, pypi={"cowsay": "6.1"})
    debian.bootstrap(recipe, tmp_path / "root.tar", Silent())
    upload, install = (one for one in started.arguments if one.startswith("--customize-hook"))
    assert upload == f"--customize-hook=upload '{authorities}' /tmp/capsem-authorities"
    for name in ("PIP_CERT", "REQUESTS_CA_BUNDLE", "SSL_CERT_FILE"):
        assert f" {name}=/tmp/capsem-authorities " in install
    assert install.endswith(" cowsay==6.1")
    assert "--prefix" not in install, "Debian's pip would install below PREFIX/local"
    authorities.unlink()
    with pytest.raises(ImageError, match="is no file"):
        debian.bootstrap(recipe, tmp_path / "root.tar", Silent())


@pytest.mark.needs("mmdebstrap")
def test_what_apt_refuses_comes_back_in_its_words(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("os.geteuid", lambda: 0)
    recipe = parse(
        'version = 1\nname = "x"\nsuite = "nosuchsuite"\nepoch = 2025-11-01T00:00:00Z\nbase = "essential"\n',
        "x",
    )
    with pytest.raises(ImageError, match="building the root file system failed"):
        debian.bootstrap(recipe, tmp_path / "root.tar", Silent())


@pytest.fixture
def open_directory(monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """Where temporary files go; the users of a namespace find it."""
    place = Path(tempfile.mkdtemp(dir="/tmp"))
    place.chmod(0o755)
    monkeypatch.setattr(tempfile, "tempdir", str(place))
    yield place
    shutil.rmtree(place)


def left_in(room: Path) -> None:
    """As an mmdebstrap that was killed leaves it: a tree that a user of its namespace owns."""
    room.chmod(0o777)
    made = 'mkdir "$1" && mkdir -p "$1/etc/private" && chmod 700 "$1/etc"'
    words = ["mmdebstrap", "--unshare-helper", "sh", "-c", made, "sh", f"{room}/mmdebstrap.x"]
    subprocess.run(words, check=True)
    room.chmod(0o755)
    shutil.rmtree(room, ignore_errors=True)
    assert (room / "mmdebstrap.x/etc").exists(), "the control: we cannot remove it"


@pytest.mark.needs("ordinary-user", "images")
def test_what_a_killed_mmdebstrap_left_goes_with_its_build_or_before_the_next(open_directory: Path) -> None:
    with debian._room() as room:
        left_in(room)
    assert not room.exists()
    left_in(left := Path(tempfile.mkdtemp(prefix="capsem-build-")))
    with debian._room():
        assert not left.exists()
    assert list(open_directory.iterdir()) == []
