from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator

import click
import pytest

from capsem.cli import main as subject
from capsem.errors import NotFoundError


def run_failing(monkeypatch: pytest.MonkeyPatch, error: BaseException) -> object:
    def fails(**_: object) -> None:
        raise error

    monkeypatch.setattr(subject.root, "main", fails)
    monkeypatch.setattr(subject, "let_go", lambda: None)  # standard output is the test runner's
    with pytest.raises(SystemExit) as ended:
        subject.main([])
    return ended.value.code


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (NotFoundError("no machine named x", next_step="see capsem list"), 1),
        (click.UsageError("what?"), 2),
        (click.Abort(), 130),
        (KeyboardInterrupt(), 130),
        (BrokenPipeError(), 141),
        (OSError(28, "No space left on device"), 125),
    ],
)
def test_every_end_has_its_exit_code(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], error: BaseException, code: int
) -> None:
    assert run_failing(monkeypatch, error) == code
    shown = capsys.readouterr().err
    if isinstance(error, NotFoundError):
        assert shown == "capsem: no machine named x\ncapsem: see capsem list\n"


def test_asking_for_help_loads_no_verb_and_nothing_heavy() -> None:
    code = (
        "import sys\nfrom capsem.cli.main import main\n"
        "try: main(['--help'])\nexcept SystemExit: pass\n"
        "heavy = {'fastapi', 'uvicorn', 'qemu', 'msgspec', 'asyncio', 'subprocess'} & set(sys.modules)\n"
        "verbs = {name for name in sys.modules if name.startswith('capsem.cli.')}\n"
        "print('LOADED', sorted(heavy), sorted(verbs))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert "version" in done.stdout
    assert "LOADED [] ['capsem.cli.main', 'capsem.cli.terminal']" in done.stdout


def ended(streams: dict[str, int]) -> int:
    """How the program ends that says its version."""
    line = [sys.executable, "-m", "capsem.cli", "version", "--json"]
    return subprocess.run(line, check=False, timeout=60, **streams).returncode  # type: ignore[call-overload,no-any-return]


def test_the_program_ends_at_once_and_what_it_said_is_out() -> None:
    line = [sys.executable, "-m", "capsem.cli", "version", "--json"]
    said = subprocess.run(line, check=True, capture_output=True, timeout=60).stdout
    assert json.loads(said)["capsem"]
    reading, writing = os.pipe()
    os.close(reading)
    with open("/dev/full", "wb") as full:
        assert ended({"stdout": full.fileno()}) == 125
    try:
        assert ended({"stdout": writing}) == 141
    finally:
        os.close(writing)
    bare = "import sys\nsys.argv[1:] = ['version', '--json']\nfrom capsem.cli.main import main\n"
    taken_apart = "import atexit\natexit.register(lambda: sys.stderr.write('apart'))\nmain()"
    done = subprocess.run(
        [sys.executable, "-c", bare + taken_apart], check=True, capture_output=True, timeout=60
    )
    assert (done.stdout, done.stderr) == (said, b"")


def verbs(command: click.Command, *path: str) -> Iterator[tuple[tuple[str, ...], click.Command]]:
    """Every verb, with its words."""
    if not isinstance(command, click.Group):
        yield path, command
        return
    context = click.Context(command)
    for name in command.list_commands(context):
        found = command.get_command(context, name)
        assert found is not None
        yield from verbs(found, *path, name)


def test_every_verb_has_an_example_and_every_answer_has_json() -> None:
    """A shell is a terminal, and a completion script is for a shell: neither answers."""
    for path, command in verbs(subject.root):
        assert (command.epilog or "").startswith(f"Example: capsem {' '.join(path)}"), path
        options = {word for one in command.params for word in one.opts}
        assert ("--json" in options) is (path not in {("shell",), ("completion",)}), path


def test_a_full_disk_is_named(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    assert run_failing(monkeypatch, OSError(28, "No space left on device", "/tmp/settings.toml")) == 125
    shown = capsys.readouterr().err
    assert "capsem: the disk of /tmp is full (" in shown
    assert "capsem: make room there: capsem disk" in shown
