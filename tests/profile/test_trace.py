"""The I/O of profiling: commands from a file, observations kept whole."""

from pathlib import Path

import msgspec
import pytest

from capsule.profile.observation import ObservationError, ProgramUse, parse_observation
from capsule.profile.trace import TraceError, read_commands, store, stored, with_interpreters, write_whole
from tests.profile.test_observation import observation


def test_commands_are_the_lines_that_say_something(tmp_path: Path) -> None:
    file = tmp_path / "commands.txt"
    file.write_text("# first\n\ngit status | head\n  # indented\nls\n")
    assert read_commands(file) == [["/bin/sh", "-c", "git status | head"], ["/bin/sh", "-c", "ls"]]


@pytest.mark.parametrize(
    ("content", "words"), [(b"# nothing\n", "no command"), (b"\xff\xfe", "cannot be read")]
)
def test_a_file_without_commands_is_refused(tmp_path: Path, content: bytes, words: str) -> None:
    file = tmp_path / "commands.txt"
    file.write_bytes(content)
    with pytest.raises(TraceError, match=words):
        read_commands(file)
    with pytest.raises(TraceError, match="cannot be read"):
        read_commands(tmp_path / "missing.txt")


def test_observations_are_kept_and_merged(tmp_path: Path) -> None:
    folder = tmp_path / "profile"
    assert stored(folder) is None
    store(folder, observation())
    first = stored(folder)
    assert first == observation()
    store(folder, observation(), first)
    second = stored(folder)
    assert second is not None
    assert second.runs == 2
    assert second == parse_observation((folder / "observation.json").read_bytes())


def test_a_damaged_observation_is_named_and_left_alone(tmp_path: Path) -> None:
    (tmp_path / "observation.json").write_text("{")
    with pytest.raises(ObservationError):
        stored(tmp_path)
    assert (tmp_path / "observation.json").read_text() == "{"


def test_writing_leaves_the_old_file_or_the_new_one(tmp_path: Path) -> None:
    file = tmp_path / "x"
    write_whole(file, b"old")
    (tmp_path / "d").mkdir()
    with pytest.raises(OSError, match="directory"):
        write_whole(tmp_path / "d", b"new")
    assert file.read_bytes() == b"old"
    assert sorted(entry.name for entry in tmp_path.iterdir()) == ["d", "x"]


def test_a_script_s_interpreter_is_needed_with_every_link_to_it(tmp_path: Path) -> None:
    (tmp_path / "real").mkdir()
    (tmp_path / "real/python3.13").write_bytes(b"\x7fELF")
    (tmp_path / "real/python3").symlink_to("python3.13")
    (tmp_path / "python").symlink_to(tmp_path / "real/python3")
    inner, script = tmp_path / "inner", tmp_path / "script"
    inner.write_text(f"#!{tmp_path}/python -I\n")
    script.write_text(f"#! {inner}\n")
    uses = (ProgramUse(str(script), 3), ProgramUse(str(tmp_path / "gone"), 1))
    seen = with_interpreters(msgspec.structs.replace(observation(), files=(), programs=uses))
    counts = {use.path.removeprefix(f"{tmp_path}/"): use.count for use in seen.programs}
    chain = {"inner": 3, "python": 3, "real/python3": 3, "real/python3.13": 3}
    assert counts == {"script": 3, "gone": 1, **chain}
    assert {use.path.removeprefix(f"{tmp_path}/"): use.execute for use in seen.files} == chain


def test_an_interpreter_in_circles_comes_to_an_end(tmp_path: Path) -> None:
    script = tmp_path / "script"
    script.write_text(f"#!{script}\n")
    seen = with_interpreters(msgspec.structs.replace(observation(), programs=(ProgramUse(str(script), 1),)))
    assert [use.path for use in seen.programs] == [str(script)]
