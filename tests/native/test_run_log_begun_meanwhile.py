"""A log of another name that one run begins where another run's command is at work: nothing of it is reached."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.native.filters import FOREIGN_SUPERVISOR
from tests.native.log import Log
from tests.native.running import Capsule

pytestmark = [pytest.mark.needs("userns", "landlock", "seccomp-notify"), pytest.mark.timeout(120)]


@pytest.fixture
def capsule(capsule_binary: Path, workspace: Path, home: Path) -> Capsule:
    (workspace / "audit").mkdir()
    return Capsule(capsule_binary, workspace)


class Attacker:
    """A run that is going: a script of Python's, which says `ready` and ends when there is a file `stop`."""

    def __init__(self, capsule: Capsule, script: str, options: tuple[str, ...] = ()) -> None:
        self.stop = capsule.workspace / "stop"
        self.run = subprocess.Popen(
            capsule.command("/usr/bin/python3", "-c", script, options=options),
            cwd=capsule.workspace,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        assert self.run.stdout is not None
        assert self.run.stdout.readline() == "ready\n", self.run.communicate()

    def end(self) -> tuple[str, str]:
        """Its output from then on, and what its supervisor said."""
        self.stop.touch()
        said = self.run.communicate(timeout=60)
        assert self.run.returncode == 0, said
        return said


WAIT = """
import os, time
def until(name):
    while not os.path.exists(name): time.sleep(0.005)
"""

REACH = (
    WAIT
    + """
print("ready", flush=True)
until("begun")
def attempt(what, act):
    try: act(); print("did", what)
    except OSError as why: print("not", what, why.errno)
attempt("append", lambda: open("audit/two.log", "a").write("x"))
attempt("truncate", lambda: os.truncate("audit/two.log", 0))
attempt("replace", lambda: (open("mine", "w").close(), os.rename("mine", "audit/two.log")))
attempt("companion", lambda: open("audit/two.log.torn-1", "w").write("x"))
attempt("link", lambda: os.link("audit/two.log", "second"))
attempt("remove", lambda: os.remove("audit/two.log"))
attempt("move the directory", lambda: os.rename("audit", "gone"))
attempt("control", lambda: open("audit/other", "w").write("x"))
until("stop")
"""
)


def begin(capsule: Capsule, log: str = "audit/two.log") -> tuple[int, str]:
    """The other run."""
    ran = capsule.run("true", options=["--log", log])
    return ran.code, str(ran.exit)


class TestBegunMeanwhile:
    def test_it_is_kept_from_a_command_that_was_there_before(self, capsule: Capsule) -> None:
        attacker = Attacker(capsule, REACH)
        assert begin(capsule)[0] == 0
        (capsule.workspace / "begun").touch()
        said, told = attacker.end()
        assert "did control" in said
        assert said.count("did") == 1, said
        assert "the log of another run" in told
        assert Log(capsule.binary, capsule.workspace / "audit" / "two.log").verify()[0] == "verified"

    def test_a_file_that_the_command_has_open_is_not_begun_in(self, capsule: Capsule) -> None:
        log = capsule.workspace / "audit" / "two.log"
        script = (
            WAIT
            + """
import mmap
f = open("audit/two.log", "w+")
print("ready", flush=True)
until("begun")
f.seek(0); f.write("forged\\n" * 400); f.flush(); f.truncate(100); f.close()
print("did")
until("stop")
"""
        )
        attacker = Attacker(capsule, script)
        code, why = begin(capsule)
        (capsule.workspace / "begun").touch()
        assert attacker.end()[0] == "did\n"
        assert code == 0, why
        assert Log(capsule.binary, log).verify()[0] == "verified"
        assert "forged" not in log.read_text()

    def test_neither_is_a_copy_of_a_log_gone_on_with_in_place(self, capsule: Capsule) -> None:
        assert begin(capsule, "capsule.log")[0] == 0
        script = (
            WAIT
            + """
f = open("audit/two.log", "wb+", buffering=0)
os.fchmod(f.fileno(), 0o600)
f.write(open("capsule.log", "rb").read())
print("ready", flush=True)
until("begun")
f.seek(0); f.write(b"forged\\n" * 400)
print("did")
until("stop")
"""
        )
        attacker = Attacker(capsule, script, ("--log", "third.log"))
        code, why = begin(capsule)
        (capsule.workspace / "begun").touch()
        assert attacker.end()[0] == "did\n"
        assert code == 0, why
        assert Log(capsule.binary, capsule.workspace / "audit" / "two.log").verify()[0] == "verified"

    @pytest.mark.parametrize(
        "act",
        [
            "os.remove(name)",
            "open('junk', 'w').close(); os.rename('junk', name)",
            "open(name, 'r+').write('x')",
            "open(name, 'a').close()",
            "os.rename('audit', 'elsewhere'); os.rename('elsewhere', 'audit')",
        ],
    )
    def test_at_the_very_moment(self, capsule: Capsule, act: str) -> None:
        script = (
            WAIT
            + f"""
print("ready", flush=True)
while not os.path.exists("rest"):
    for n in range(200):
        name = f"audit/{{n % 20}}.log"
        try: {act}
        except OSError: pass
    time.sleep(0.002)
print("rests", flush=True)
until("stop")
"""
        )
        attacker = Attacker(capsule, script)
        begun = []
        for n in range(20):
            code, why = begin(capsule, f"audit/{n}.log")
            # It may be refused, each time even: the way to it keeps changing, or the name.
            assert code in (0, 125), why
            if code == 0:
                begun.append(f"audit/{n}.log")
        (capsule.workspace / "rest").touch()
        assert attacker.run.stdout is not None
        assert attacker.run.stdout.readline() == "rests\n"
        # A directory that a log was begun in meanwhile could not be moved back: then nobody finds it any more.
        if (capsule.workspace / "elsewhere").exists():
            (capsule.workspace / "elsewhere").rename(capsule.workspace / "audit")
        # The control: where nothing changes meanwhile, one is begun beside the same command.
        code, why = begin(capsule, "audit/control.log")
        assert code == 0, why
        attacker.end()
        for log in [*begun, "audit/control.log"]:
            assert Log(capsule.binary, capsule.workspace / log).verify()[0] == "verified", log

    def test_many_begin_one_at_once(self, capsule: Capsule) -> None:
        (capsule.workspace / "audit" / "two.log").touch(0o600)
        runs = [
            subprocess.Popen(
                capsule.command("true", options=["--log", "audit/two.log"]),
                cwd=capsule.workspace,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                text=True,
            )
            for _ in range(20)
        ]
        said = [run.communicate(timeout=100)[0] for run in runs]
        assert [run.returncode for run in runs] == [0] * 20, said
        outcome, _, report = Log(capsule.binary, capsule.workspace / "audit" / "two.log").verify()
        assert outcome == "verified"
        assert report["log"]["entries"] == 1 + 3 * 20


def test_what_is_no_log_is_not_kept_because_somebody_named_it(capsule: Capsule) -> None:
    page = capsule.workspace / "README.md"
    page.write_text("# A page\n")
    code, why = begin(capsule, "README.md")
    assert code == 125
    assert "is not a log of" in why
    assert capsule.run("sh", "-c", "echo more >> README.md").code == 0
    assert page.read_text() == "# A page\nmore\n"


class TestWithoutMonitor:
    @pytest.fixture
    def without(self, capsule: Capsule) -> Capsule:
        return capsule.inside((sys.executable, "-c", FOREIGN_SUPERVISOR))

    @pytest.fixture
    def options(self, tmp_path: Path) -> tuple[str, ...]:
        return ("--log", str(tmp_path / "outside.log"), "--allow-degraded", "supervisor")

    def test_nothing_is_begun_where_a_run_without_one_may_write(
        self, capsule: Capsule, without: Capsule, options: tuple[str, ...], tmp_path: Path
    ) -> None:
        attacker = Attacker(without, WAIT + 'print("ready", flush=True)\nuntil("stop")', options)
        for log in ("audit/two.log", "capsule.log"):
            code, why = begin(capsule, log)
            assert code == 125
            assert "may write, and which has no layer `supervisor`" in why
            assert not (capsule.workspace / log).exists()
        assert begin(capsule, str(tmp_path / "elsewhere.log"))[0] == 0
        attacker.end()
        assert begin(capsule)[0] == 0

    def test_it_does_not_start_where_a_named_log_lies(
        self, capsule: Capsule, without: Capsule, options: tuple[str, ...]
    ) -> None:
        assert begin(capsule)[0] == 0
        ran = without.run("true", options=options)
        assert ran.code == 125
        assert "audit/two.log" in ran.exit["reason"]
        (capsule.workspace / "audit" / "two.log").unlink()
        assert without.run("true", options=options).code == 0

    def test_it_does_not_start_where_a_log_of_the_usual_name_lies(
        self, capsule: Capsule, without: Capsule, options: tuple[str, ...]
    ) -> None:
        (capsule.workspace / "below").mkdir()
        usual = capsule.workspace / "below" / "capsule.log"
        assert begin(capsule, str(usual))[0] == 0
        ran = without.run("true", options=options)
        assert ran.code == 125
        assert "below/capsule.log" in ran.exit["reason"]
        assert "the log of another run" in ran.exit["reason"]
        usual.unlink()
        assert without.run("true", options=options).code == 0


LOCK = """
import fcntl, os, sys
for name in ("named-logs", "going", "going-unwatched", "heads", "control"):
    try: file = os.open(sys.argv[1] + "/" + name, os.O_RDONLY)
    except OSError as why: print(name, why.errno); continue
    fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    print(name, "locked")
"""


def test_what_all_runs_wait_for_is_locked_by_no_command(capsule: Capsule) -> None:
    state = Path(os.environ["XDG_STATE_HOME"]) / "capsule"
    policy = capsule.workspace / "all.yaml"
    policy.write_text(f"version: 1\nname: all\nextends: [workspace]\nfilesystem: {{read: ['{state}']}}\n")
    (state / "going-unwatched").parent.mkdir(parents=True, exist_ok=True)
    for name in ("going-unwatched", "control"):
        (state / name).touch(0o600)
    options = ["--policy", "./all.yaml", "--log", "audit/two.log"]
    ran = capsule.run("/usr/bin/python3", "-c", LOCK, str(state), options=options)
    assert ran.code == 0, (ran.err, ran.exit)
    assert ran.out.split("\n")[:4] == [
        "named-logs 13",
        "going 13",
        "going-unwatched 13",
        "heads 13",
    ]
    assert ran.out.split("\n")[4] == "control locked"
