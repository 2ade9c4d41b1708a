"""`capsule run` from a person's shell: stopped and gone on with, closed streams, and what is told of a run."""

from __future__ import annotations

import errno
import json
import os
import re
import shlex
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.native.running import Capsule, talk

pytestmark = [pytest.mark.needs("userns", "landlock", "seccomp-notify"), pytest.mark.timeout(120)]


@pytest.fixture
def capsule(capsule_binary: Path, workspace: Path, home: Path) -> Capsule:
    return Capsule(capsule_binary, workspace)


class TestStopped:
    def test_the_prompt_comes_back_and_fg_goes_on(self, capsule: Capsule) -> None:
        script = "echo rea''dy; read word; echo got-$word; exit 6"
        line = shlex.join(capsule.command("sh", "-c", script))
        lines = [
            (b"bash-", b"PS1='at''-prompt '\n"),
            (b"at-prompt ", line.encode() + b"\n"),
            (b"ready", b"\x1a"),
            (b"Stopped", b"echo prompt-$((20+1)); jobs\n"),
            (b"prompt-21", b"fg\n"),
            # The shell repeats the line of the job it goes on with.
            (b"prompt-21", b"wo''rd\n"),
            (b"got-wo''rd", b"echo ended-$?\n"),
            (b"ended-6", b"exit 3\n"),
        ]
        said, code = talk(["bash", "--norc", "-i"], capsule.workspace, lines, b"ended-6")
        assert code == 3, said
        # Who typed the key knows.
        assert b"has stopped" not in said

    def test_nothing_inside_runs_meanwhile(self, capsule: Capsule) -> None:
        script = "echo rea''dy; while :; do date +%s%N > beat; sleep 0.05; done"
        line = shlex.join(capsule.command("sh", "-c", script))
        look = "cat beat > one; sleep 1; cat beat > two; cmp one two && echo still-$((40+2))"
        lines = [
            (b"bash-", b"PS1='at''-prompt '\n"),
            (b"at-prompt ", line.encode() + b"\n"),
            (b"ready", b"\x1a"),
            (b"Stopped", look.encode() + b"\n"),
            (b"still-42", b"kill -9 %1; sleep 0.5; jobs; exit 4\n"),
        ]
        _, code = talk(["bash", "--norc", "-i"], capsule.workspace, lines, b"still-42")
        assert code == 4

    STOPS = ("sh", "-c", "kill -STOP $$; echo went''-on; exit 6")
    TOLD = re.compile(
        rb"\r\ncapsule: the command has stopped; Ctrl-Z .* `kill -CONT (\d+)`, lets it go on; Ctrl-C .*\r\n"
    )

    @pytest.mark.parametrize("piped", [False, True])
    def test_one_that_stopped_itself_is_told_of_and_goes_on(self, capsule: Capsule, piped: bool) -> None:
        line = shlex.join(capsule.command(*self.STOPS))
        # Piped it has no terminal of its own; standard error is one.
        line = f"echo | {line} | cat; exit ${{PIPESTATUS[1]}}" if piped else f"exec {line}"

        def go_on(said: bytes) -> bytes:
            found = self.TOLD.search(said)
            assert found is not None, said
            os.kill(int(found[1]), signal.SIGCONT)
            return b""

        said, code = talk(["bash", "-c", line], capsule.workspace, [(b"lets it go on", go_on)], b"went-on")
        assert (code, said.count(b"has stopped")) == (6, 1), said

    def test_the_key_and_fg_let_one_that_stopped_itself_go_on(self, capsule: Capsule) -> None:
        line = shlex.join(capsule.command(*self.STOPS))
        lines = [
            (b"bash-", b"PS1='at''-prompt '\n"),
            (b"at-prompt ", line.encode() + b"\n"),
            (b"ends the run", b"\x1a"),
            (b"Stopped", b"fg\n"),
            (b"went-on", b"echo ended-$?\n"),
            (b"ended-6", b"exit 3\n"),
        ]
        _, code = talk(["bash", "--norc", "-i"], capsule.workspace, lines, b"ended-6")
        assert code == 3

    def test_three_keys_end_one_that_stopped_itself(self, capsule: Capsule) -> None:
        lines = [(b"ends the run", b"\x03\x03\x03")]
        _, code = talk(capsule.command(*self.STOPS), capsule.workspace, lines, b"interrupted three times")
        assert code == 130

    def test_however_often_it_stops_it_is_told_once(self, capsule: Capsule) -> None:
        script = (
            "import os, signal, time\n"
            "if os.fork() == 0:\n"
            "    while True: time.sleep(0.01); os.kill(os.getppid(), signal.SIGCONT)\n"
            "for _ in range(50): os.kill(os.getpid(), signal.SIGSTOP)\n"
            "print('went' + '-on')"
        )
        words = capsule.command("/usr/bin/python3", "-c", script)
        said, code = talk(words, capsule.workspace, [], b"went-on")
        assert (code, said.count(b"has stopped")) == (0, 1), said

    def test_the_limits_hold_for_one_that_stopped_itself(self, capsule: Capsule) -> None:
        words = capsule.command(*self.STOPS, options=["--timeout", "2"])
        _, code = talk(words, capsule.workspace, [], b"time was up")
        assert code == 124

    def test_one_begun_in_the_background_has_the_settings_of_its_own_turn(self, capsule: Capsule) -> None:
        script = "mode=$(stty -a | grep -o -e -*icanon); echo mo''de-$mode; read word; echo got-$word-"
        line = shlex.join(capsule.command("sh", "-c", script))
        lines = [
            (b"bash-", b"PS1='at''-prompt '; set -b\n"),
            # By then the shell edits its line, with a terminal that hands over every key.
            (b"at-prompt ", f"(sleep 1; exec {line}) &\n".encode()),
            (b"Stopped", b"fg\n"),
            (b"mode-", b"word\n"),
            (b"got-word-", b"exit 3\n"),
        ]
        said, code = talk(["bash", "--norc", "-i"], capsule.workspace, lines, b"got-word-")
        assert code == 3, said
        assert b"mode-icanon" in said

    @pytest.mark.parametrize("number", [signal.SIGHUP, signal.SIGTERM])
    def test_one_that_stopped_itself_can_be_ended(self, capsule: Capsule, number: int) -> None:
        look = "import os, signal; print('stops', flush=True); os.kill(os.getpid(), signal.SIGSTOP)"
        words = capsule.command("/usr/bin/python3", "-c", look)
        with subprocess.Popen(words, cwd=capsule.workspace, stdout=subprocess.PIPE) as run:
            assert run.stdout is not None
            run.stdout.readline()
            time.sleep(0.5)
            run.send_signal(number)
            try:
                assert run.wait(20) == 128 + number
            finally:
                run.kill()


class TestClosedStreams:
    @pytest.mark.parametrize("stream", ["<&-", ">&-", "2>&-"])
    def test_a_closed_stream_is_closed_for_the_command_too(self, capsule: Capsule, stream: str) -> None:
        use = {"<": "os.read(0, 1)", ">": "os.write(1, b'x')", "2": "os.write(2, b'x')"}[stream[0]]
        look = f"import os\ntry: {use}\nexcept OSError as error: open('closed', 'w').write(str(error.errno))"
        line = shlex.join(capsule.command("/usr/bin/python3", "-c", look))
        done = subprocess.run(
            ["sh", "-c", f"{line} {stream}"],
            cwd=capsule.workspace,
            capture_output=True,
            check=False,
            timeout=60,
        )
        assert done.returncode == 0, done.stderr
        assert (capsule.workspace / "closed").read_text() == str(errno.EBADF)
        # The log took the descriptor's number for nothing of the command's.
        kept = (capsule.workspace / "capsule.log").read_text()
        assert kept.startswith('{"block":0')

    def test_what_cannot_be_written_fails_as_without_a_sandbox(self, capsule: Capsule) -> None:
        line = shlex.join(capsule.command("/bin/echo", "x"))
        codes = [
            subprocess.run(
                ["sh", "-c", f"{words} >&-"],
                cwd=capsule.workspace,
                capture_output=True,
                check=False,
                timeout=60,
            ).returncode
            for words in ("/bin/echo x", line)
        ]
        assert codes == [1, 1]


class TestSmallFiles:
    """A caller's limit on the size of files is told where capsule meets it, and is the command's as it was."""

    @staticmethod
    def limited(capsule: Capsule, blocks: int, *words: str, to: str = "") -> subprocess.CompletedProcess[str]:
        line = f"ulimit -f {blocks}; exec {shlex.join(words)} {to}"
        return capsule.tell(["bash", "-c", line])

    def test_a_log_that_may_not_grow_begins_no_run(self, capsule: Capsule) -> None:
        told = self.limited(capsule, 0, *capsule.command("touch", "made"))
        assert told.returncode == 125
        assert "File too large" in told.stderr
        assert "`ulimit -f`" in told.stderr
        assert [each.name for each in capsule.workspace.iterdir()] == []

    def test_one_that_stands_is_left_as_it_was(self, capsule: Capsule) -> None:
        capsule.run("true")
        before = (capsule.workspace / "capsule.log").read_bytes()
        told = self.limited(capsule, 0, *capsule.command("touch", "made"))
        assert (told.returncode, "`ulimit -f`" in told.stderr) == (125, True), told.stderr
        assert (capsule.workspace / "capsule.log").read_bytes() == before
        line = f"ulimit -f 0; echo {{}} | {capsule.binary} record --wait"
        told = capsule.tell(["bash", "-c", line])
        assert (told.returncode, "`ulimit -f`" in told.stderr) == (125, True), told.stderr

    def test_the_command_s_signal_and_limit_are_the_caller_s(self, capsule: Capsule) -> None:
        script = "ulimit -f; grep SigIgn /proc/self/status; head -c 300000 /dev/zero > big; echo $?"
        told = self.limited(capsule, 200, *capsule.command("bash", "-c", script))
        limit, _, ignored, code = told.stdout.split()
        assert (limit, code) == ("200", str(128 + signal.SIGXFSZ)), told.stderr
        assert not int(ignored, 16) >> (signal.SIGXFSZ - 1) & 1

    def test_half_an_answer_is_no_success(self, capsule: Capsule) -> None:
        capsule.run("true")
        told = self.limited(capsule, 0, str(capsule.binary), "log", to="> answer")
        assert (told.returncode, "File too large" in told.stderr) == (125, True), told.stderr
        told = self.limited(
            capsule, 0, sys.executable, "-m", "capsule.cli", "policy", "schema", to="> answer"
        )
        assert (told.returncode, "File too large" in told.stderr) == (125, True), told.stderr

    @pytest.mark.parametrize("words", [["sessions", "list"], ["profile", "--", "true"], ["doctor"]])
    def test_python_s_side_says_it_too(self, capsule: Capsule, words: list[str]) -> None:
        capsule.run("true")
        told = self.limited(capsule, 0, sys.executable, "-m", "capsule.cli", *words)
        assert told.returncode == 125
        assert "`ulimit -f`" in told.stderr
        assert "Traceback" not in told.stderr


class TestTold:
    def test_a_name_writes_no_line_of_its_own(self, capsule: Capsule) -> None:
        name = "x\ncapsule: y\x1b[2J\u202e"
        script = capsule.workspace / name
        script.write_text("#!/no-such-program\n")
        script.chmod(0o755)
        words = [["./" + name], ["sh", "-c", f"mkdir '{name}.d'; echo 'ref: x' > '{name}.d/HEAD'"]]
        options: list[list[str]] = [[], ["--policy", f"./{name}.yaml"], ["--" + name]]
        for told in [
            *(capsule.tell(capsule.command(*each)) for each in words),
            *(capsule.tell(capsule.command("true", options=each)) for each in options),
            capsule.tell([str(capsule.binary), name]),
            capsule.tell([str(capsule.binary), "log"]),
            capsule.tell([str(capsule.binary), "log", "--full"]),
            capsule.tell([str(capsule.binary), "log", "--json"]),
            capsule.tell([str(capsule.binary), "verify", name]),
        ]:
            said = told.stdout + told.stderr
            assert not {"\x1b", "\u202e"} & set(said), said
            assert not [line for line in said.splitlines() if line.startswith("capsule: y")], said

    def test_what_is_not_told_is_counted_with_the_command_that_shows_it(
        self, capsule: Capsule, home: Path, tmp_path: Path
    ) -> None:
        script = f"cat {tmp_path}/absent; cat {home}/.ssh/id_ed25519; cat {home}/.ssh/nothing; exit 0"
        told = capsule.tell(capsule.command("sh", "-c", script))
        line = next(line for line in told.stderr.splitlines() if " on the record: capsule log" in line)
        words = shlex.split(line.partition("on the record: capsule ")[2])
        shown = capsule.tell([str(capsule.binary), *words]).stdout
        denied = [entry for entry in told.stderr.splitlines() if entry.startswith("capsule: denied")]
        more = int(line.split()[1])
        assert len(denied) + more == len(shown.splitlines()), (told.stderr, shown)


@pytest.mark.parametrize("first", ["#!/no-such-program", "#!/bin/sh\r"])
def test_an_interpreter_that_is_nowhere_is_no_matter_of_rules(capsule: Capsule, first: str) -> None:
    script = capsule.workspace / "tool"
    script.write_text(f"{first}\necho x\n")
    script.chmod(0o755)
    done = capsule.tell(capsule.command("./tool"))
    assert done.returncode == 127
    assert "is not there; correct its first line" in done.stderr
    assert "to allow" not in done.stderr
    script.write_text("#!/bin/sh\necho x\n")
    assert capsule.tell(capsule.command("./tool")).stdout == "x\n"


@pytest.mark.parametrize(
    ("options", "told"),
    [
        (["--log", ""], "--log: the name is empty"),
        (["--timeout", "1e400"], '"1e400" is more than'),
        (["--timeout", "nan"], '"nan" is not a number of seconds'),
    ],
)
def test_an_option_that_cannot_be_meant_is_told_as_what_it_is(
    capsule: Capsule, options: list[str], told: str
) -> None:
    done = capsule.tell(capsule.command("true", options=options))
    assert done.returncode == 125
    assert told in done.stderr


def test_in_json_a_command_line_that_is_not_understood_is_a_report(capsule: Capsule) -> None:
    for options in (["--frobnicate", "--json"], ["--json", "--timeout", "soon"]):
        done = capsule.tell(capsule.command("true", options=options))
        report = json.loads(done.stderr)
        assert (done.returncode, report["exit"]["code"], report["exit"]["cause"]) == (125, 125, "refused")
        assert report["exit"]["reason"].endswith("see capsule run --help")
        assert report["cwd"] == str(capsule.workspace)
    done = capsule.tell(capsule.command("true", "--json", options=["--frobnicate"]))
    assert done.stderr.startswith("capsule: run: invalid option")


def test_a_refused_policy_says_where_it_was(capsule: Capsule) -> None:
    ran = capsule.run("true", options=capsule.policy("nonsense: 1\n"))
    assert (ran.code, ran.report["cwd"]) == (125, str(capsule.workspace))


def test_a_name_that_is_looked_up_without_a_network_is_told_as_that(capsule: Capsule) -> None:
    # As the C library asks: over a connected datagram socket.
    script = "echo x > /dev/udp/192.0.2.53/53"
    ran = capsule.run("bash", "-c", script)
    (asked,) = ran.report["denials"]
    assert (asked["target"], asked["allow"]) == ("udp:192.0.2.53:53", "network: hosts: [NAME]")
    said = capsule.tell(capsule.command("bash", "-c", script)).stderr
    assert "a host's name was looked up, and the policy names no hosts" in said
    assert "to allow: network: hosts: [NAME]" in said
    # The control: another port is no question for a name.
    other = capsule.run("bash", "-c", "echo x > /dev/udp/192.0.2.53/5354")
    assert [denial["allow"] for denial in other.report["denials"]] == [None]
