from __future__ import annotations

import json
from pathlib import Path

import pytest

from capsem.cli.cp import _out
from capsem.cli.main import main
from capsem.errors import MachineError
from capsem.host import places
from capsem.wire.archive import Limits
from tests.capsem.cli.served import capsem, served
from tests.capsem.processes.monitor.standing import ID, USER


@pytest.mark.parametrize(
    ("words", "what"),
    [
        (["a", "b"], "one of the two must be in a machine"),
        (["m:/a", "n:/b"], "one of the two must be in a machine"),
        (["m:a", "b"], "is not absolute"),
        (["m:/a", "no-such-directory/"], "there is no such directory"),
    ],
)
def test_what_is_no_copy_is_refused_before_anything_is_asked(
    words: list[str], what: str, capsem_home: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as ended:
        main(["cp", *words])
    assert ended.value.code == 2
    assert what in capsys.readouterr().err
    assert not (capsem_home / "run").exists(), "no service was started for it"


@pytest.mark.asyncio
@pytest.mark.skipif(
    USER != 0, reason="files of a machine are root's, and its agent is an ordinary process here"
)
async def test_a_directory_goes_in_without_its_secrets_and_out_again(
    capsem_home: Path, tmp_path: Path
) -> None:
    source = tmp_path / "source"
    (source / "d").mkdir(parents=True)
    (source / "d/x").write_text("x")
    (source / ".env").write_text("secret")
    (source / "l").symlink_to("d")
    async with served(tmp_path):
        done = await capsem("cp", "-r", "--json", str(source), f"build:{tmp_path}/in/")
        assert done.returncode == 0, done.stderr
        told = json.loads(done.stdout)
        assert told["target"] == f"build:{tmp_path}/in/source"
        assert told["left_out"] == [[".env", "denied by preset:secret-files:8"]]
        assert sorted(path.name for path in (tmp_path / "in/source").rglob("*")) == ["d", "l", "x"]
        (tmp_path / "in/source/out").symlink_to("/etc/passwd")
        done = await capsem("cp", "-r", f"build:{tmp_path}/in/source", str(tmp_path / "back"))
        assert done.returncode == 0, done.stderr
        assert b"left out: 'out': it is a link that leads out" in done.stderr
        assert sorted(path.name for path in (tmp_path / "back").rglob("*")) == ["d", "l", "x"]
        done = await capsem("cp", "-r", f"build:{tmp_path}/in/source", str(tmp_path / "back/d/x/y"))
        assert done.returncode == 2
        done = await capsem("cp", str(source), "build:/root/x")
        assert done.returncode == 2
        assert b"capsem cp -r" in done.stderr
        done = await capsem("cp", str(source / ".env"), f"build:{tmp_path}/named")
        assert (tmp_path / "named").read_text() == "secret", "what is named itself is copied"


@pytest.mark.asyncio
@pytest.mark.usefixtures("capsem_home")
@pytest.mark.skipif(
    USER != 0, reason="files of a machine are root's, and its agent is an ordinary process here"
)
async def test_a_file_takes_its_name_when_it_is_whole_and_none_without_end_is_taken(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    there, here = tmp_path / "there", tmp_path / "here"
    here.mkdir()
    there.write_bytes(b"x" * 100_000)
    (here / "a").symlink_to("/etc/passwd")
    async with served(tmp_path):
        for _ in range(2):
            done = await capsem("cp", f"build:{there}", str(here / "a"))
            assert done.returncode == 0, done.stderr
        assert (here / "a").read_bytes() == b"x" * 100_000
        assert not (here / "a").is_symlink()
        done = await capsem("cp", "build:/dev/zero", str(here / "zero"))
        assert done.returncode == 125
        assert b"Invalid argument" in done.stderr
        monkeypatch.setattr("capsem.cli.cp.Limits", lambda: Limits(size=99_999))
        with pytest.raises(MachineError, match="may have no end"):
            await _out(places.monitor_socket(ID), str(there), here / "b")
        monkeypatch.setattr("os.O_TMPFILE", 0)
        with pytest.raises(MachineError, match="may have no end"):
            await _out(places.monitor_socket(ID), str(there), here / "b")
        assert [path.name for path in here.iterdir()] == ["a"]
