"""The I/O of profiling: commands from a file, observations kept whole."""

from pathlib import Path

import pytest

from capsule.profile.observation import ObservationError, parse_observation
from capsule.profile.trace import TraceError, read_commands, store, stored, write_whole
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
