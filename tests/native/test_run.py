"""`capsule run` as a shell user meets it: exit codes, streams, environment, limits, the end of the tree, refusals."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import time
import uuid
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.native.running import Capsule, alive, talk

pytestmark = [pytest.mark.needs("userns", "landlock", "seccomp-notify"), pytest.mark.timeout(120)]


@pytest.fixture
def capsule(capsule_binary: Path, workspace: Path, home: Path) -> Capsule:
    return Capsule(capsule_binary, workspace)


def until(condition: Callable[[], object], seconds: float = 10) -> bool:
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        if condition():
            return True
        time.sleep(0.02)
    return bool(condition())


class TestExitCodes:
    @pytest.mark.parametrize(
        ("words", "code", "cause"),
        [
            (["true"], 0, "exited"),
            (["sh", "-c", "exit 3"], 3, "exited"),
            (["sh", "-c", "exit 125"], 125, "exited"),
            (["sh", "-c", "kill -SEGV $$"], 139, "signalled"),
            (["sh", "-c", "kill -KILL $$"], 137, "signalled"),
        ],
    )
    def test_the_command_s_own_or_a_shell_s(
        self, capsule: Capsule, words: list[str], code: int, cause: str
    ) -> None:
        ran = capsule.run(*words)
        assert (ran.code, ran.exit["code"], ran.exit["cause"]) == (code, code, cause), ran.err

    @pytest.mark.parametrize(
        ("word", "code"),
        [
            ("no-such-program", 127),
            ("./no-such-program", 127),
            ("no-such-directory/program", 127),
            ("./dangling", 127),
            ("./bad-interpreter", 127),
            (f"{'a' * 300}", 127),
            ("..", 127),
            ("a-directory", 127),
            ("not-executable", 126),
            ("./not-executable", 126),
            ("/etc/passwd", 126),
            ("/etc", 126),
            ("/etc/", 126),
            ("/bin/true/", 126),
            ("/bin/true/program", 126),
            ("./interpreter-below-a-file", 126),
            ("./loop", 126),
            ("./loop/program", 126),
            (f"./{'a' * 300}", 126),
            ("./broken-binary", 126),
        ],
    )
    def test_what_cannot_be_started_is_told_as_bash_tells_it(
        self, capsule: Capsule, word: str, code: int
    ) -> None:
        there = capsule.workspace
        for name, text in [
            ("bad-interpreter", "#!/no/such/interpreter\n"),
            ("interpreter-below-a-file", "#!/bin/true/program\n"),
            ("broken-binary", "\x7fELF\0"),
        ]:
            (there / name).write_text(text)
            (there / name).chmod(0o755)
        (there / "dangling").symlink_to("nowhere")
        (there / "loop").symlink_to("loop")
        (there / "search/a-directory").mkdir(parents=True)
        for name in ("not-executable", "search/not-executable"):
            (there / name).touch(mode=0o644)
        env = {**os.environ, "PATH": f"{there}/search:{os.environ['PATH']}"}
        shell = subprocess.run(["bash", "-c", word], cwd=there, env=env, capture_output=True, check=False)
        ran = capsule.run(word, env={"PATH": env["PATH"]})
        assert (ran.code, shell.returncode) == (code, code), (ran.err, shell.stderr)
        assert ran.exit["cause"] == {126: "not_executable", 127: "not_found"}[code]

    def test_a_program_that_is_granted_alone_is_found_where_it_lies(
        self, capsule: Capsule, home: Path
    ) -> None:
        """As `capsule profile` grants it; what else lies there is not to be found."""
        there = home / "bin"
        there.mkdir()
        for name in ("mine", "other"):
            (there / name).write_text(f"#!/bin/sh\necho {name} ran\n")
            (there / name).chmod(0o755)
        options = capsule.policy("filesystem: {read: [~/bin/mine], execute: [~/bin/mine]}\n")
        path = {"PATH": f"{there}:/usr/bin:/bin"}
        assert capsule.run("mine", options=options, env=path).out == "mine ran\n"
        assert capsule.run("sh", "-c", "mine", options=options, env=path).out == "mine ran\n"
        assert capsule.run("other", options=options, env=path).code == 127
        assert capsule.run("mine", env=path).code == 127

    def test_a_script_without_a_first_line_is_no_program(self, capsule: Capsule) -> None:
        """A shell would read it itself, and capsule is none."""
        script = capsule.workspace / "script"
        script.write_text("exit 3\n")
        script.chmod(0o755)
        ran = capsule.run("./script")
        assert (ran.code, ran.exit["cause"]) == (126, "not_executable")

    def test_timeout_is_124(self, capsule: Capsule) -> None:
        ran = capsule.run("sleep", "60", options=["--timeout", "0.3"])
        assert (ran.code, ran.exit["cause"], ran.exit["limit"]) == (124, "timeout", "wall_time")

    def test_what_is_not_understood_runs_nothing(self, capsule: Capsule) -> None:
        done = subprocess.run(
            [str(capsule.binary), "run", "--frobnicate", "touch", "made"],
            cwd=capsule.workspace, capture_output=True, text=True, check=False,
        )  # fmt: skip
        assert done.returncode == 125
        assert "--frobnicate" in done.stderr
        assert not (capsule.workspace / "made").exists()


class TestStreams:
    def test_input_and_output_pass(self, capsule: Capsule) -> None:
        assert capsule.run("cat", given="hello\n" * 1000).out == "hello\n" * 1000

    def test_standard_error_is_the_command_s_alone_without_denials(self, capsule: Capsule) -> None:
        done = subprocess.run(
            capsule.command("sh", "-c", "echo out; echo err >&2"),
            cwd=capsule.workspace, capture_output=True, text=True, check=True,
        )  # fmt: skip
        assert (done.stdout, done.stderr) == ("out\n", "err\n")

    def test_a_reader_that_leaves_ends_the_writer(self, capsule: Capsule) -> None:
        # bash, for PIPESTATUS: the command must die of SIGPIPE and not run on.
        line = f"{' '.join(capsule.command('yes'))} | head -n 1; echo ${{PIPESTATUS[0]}}"
        done = subprocess.run(
            ["bash", "-c", line],
            cwd=capsule.workspace,
            capture_output=True,
            text=True,
            timeout=60,
            check=True,
        )
        assert done.stdout == "y\n141\n"

    def test_the_output_limit_ends_the_command(self, capsule: Capsule) -> None:
        ran = capsule.run("yes", options=capsule.policy("limits: {output: 64KiB}\n"))
        assert (ran.code, ran.exit["cause"], ran.exit["limit"]) == (124, "limit", "output")
        assert len(ran.out) <= 64 << 10

    def test_counted_output_arrives_whole_and_in_order(self, capsule: Capsule) -> None:
        options = capsule.policy("limits: {output: 4MiB}\n")
        ran = capsule.run("seq", "100000", options=options)
        assert ran.code == 0
        assert ran.out == "".join(f"{n}\n" for n in range(1, 100001))

    def test_inherited_descriptors_are_closed(self, capsule: Capsule) -> None:
        with (capsule.workspace / "open").open("w") as file:
            os.set_inheritable(file.fileno(), True)
            done = subprocess.run(
                capsule.command("sh", "-c", "ls /proc/self/fd"),
                cwd=capsule.workspace, stdin=subprocess.DEVNULL, capture_output=True, text=True,
                pass_fds=[file.fileno()], check=True,
            )  # fmt: skip
        # 3 is the listing's own.
        assert set(done.stdout.split()) <= {"0", "1", "2", "3"}


class TestEnvironment:
    def test_secrets_and_loaders_do_not_pass(self, capsule: Capsule) -> None:
        env = {"GITHUB_TOKEN": "SECRET-1", "LD_PRELOAD": "/tmp/x.so", "BASH_ENV": "/tmp/x", "CI": "yes"}
        out = capsule.run("env", env=env).out
        assert "CI=yes" in out.splitlines()
        assert "SECRET-1" not in out
        assert "LD_PRELOAD" not in out
        assert "BASH_ENV" not in out

    def test_values_of_the_command_line_win(self, capsule: Capsule) -> None:
        ran = capsule.run("sh", "-c", "echo $CI", options=["--env", "CI=mine"], env={"CI": "yours"})
        assert ran.out == "mine\n"


class TestFiles:
    def test_the_home_is_hidden(self, capsule: Capsule, home: Path) -> None:
        ran = capsule.run("sh", "-c", f"ls -A {home}; cat {home}/.ssh/id_ed25519")
        assert "DECOY" not in ran.out
        assert ".ssh" not in ran.out
        assert ran.code != 0

    def test_writes_outside_are_refused_and_said(self, capsule: Capsule, tmp_path: Path) -> None:
        outside = tmp_path / "outside"
        outside.mkdir()
        capsule.run("sh", "-c", f"echo x > {outside}/file; echo y > inside")
        assert not list(outside.iterdir())
        assert (capsule.workspace / "inside").read_text() == "y\n"

    def test_a_denial_says_what_would_allow_it(self, capsule: Capsule) -> None:
        ran = capsule.run("touch", "/etc/capsule-was-here")
        [denial] = ran.report["denials"]
        assert denial["operation"] == "create"
        assert denial["target"] == "/etc/capsule-was-here"
        assert "filesystem: write:" in denial["allow"]
        assert not Path("/etc/capsule-was-here").exists()

    @pytest.mark.parametrize("name", ["capsule.log", "capsule.yaml", "policy.yaml", "capsule.log.torn-1"])
    def test_the_log_and_the_policy_cannot_be_changed(self, capsule: Capsule, name: str) -> None:
        options = capsule.policy("")
        script = f"echo tampered >> {name}; rm -f {name}; mv {name} x; ln {name} y; echo new > {name}"
        capsule.run("sh", "-c", script, options=options)
        path = capsule.workspace / name
        # The log holds the command's words, but never a line of the command's own.
        assert not path.exists() or {"tampered", "new"}.isdisjoint(path.read_text().splitlines())
        assert not (capsule.workspace / "x").exists()
        assert not (capsule.workspace / "y").exists()
        assert (capsule.workspace / "capsule.log").exists()
        assert (capsule.workspace / "policy.yaml").exists()

    def test_private_directories_leave_nothing_behind(self, capsule: Capsule) -> None:
        name = f"/tmp/capsule-{uuid.uuid4().hex}"
        assert capsule.run("sh", "-c", f"echo x > {name} && cat {name}").out == "x\n"
        assert not Path(name).exists()

    def test_named_programs_alone_run(self, capsule: Capsule) -> None:
        options = capsule.policy("process: {programs: [/bin/sh, /bin/cat]}\n")
        copy = "cp=$(cat /bin/true > ./copy && chmod +x ./copy)"
        loader = next(Path("/lib64").glob("ld-linux*"), Path("/lib/ld-linux-aarch64.so.1"))
        tries = ["/bin/true", "./copy", f"{loader} /bin/true", f"{loader} ./copy"]
        script = (
            copy
            + "; "
            + "; ".join(f"{line} && echo ran {line}" for line in tries)
            + "; cat /dev/null; exit 9"
        )
        ran = capsule.run("sh", "-c", script, options=options)
        assert ran.code == 9, ran.err
        assert "ran" not in ran.out

    def test_a_program_with_another_digest_refuses_the_run(self, capsule: Capsule) -> None:
        options = capsule.policy(f"process: {{programs: [{{path: /bin/sh, digest: 'blake3:{'0' * 64}'}}]}}\n")
        ran = capsule.run("sh", "-c", "true", options=options)
        assert ran.code == 125
        assert "digest" in ran.exit["reason"]


class TestPrivileges:
    def test_nothing_is_left(self, capsule: Capsule) -> None:
        status = dict(
            line.split(":\t", 1) for line in capsule.run("cat", "/proc/self/status").out.splitlines()
        )
        for name in ("CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb"):
            assert int(status[name], 16) == 0, name
        assert (status["NoNewPrivs"], status["Seccomp"]) == ("1", "2")

    def test_global_knobs_are_read_only(self, capsule: Capsule) -> None:
        script = "echo x > /proc/sys/kernel/core_pattern; echo 1 > /proc/sysrq-trigger; echo 1 > /sys/kernel/profiling"
        before = Path("/proc/sys/kernel/core_pattern").read_text()
        capsule.run("sh", "-c", script)
        assert Path("/proc/sys/kernel/core_pattern").read_text() == before

    def test_no_namespace_can_be_made(self, capsule: Capsule) -> None:
        assert capsule.run("unshare", "-Ur", "true").code != 0


class TestLimits:
    def test_memory(self, capsule: Capsule) -> None:
        options = capsule.policy("limits: {memory: 64MiB}\n")
        ran = capsule.run("sh", "-c", "head -c 200m /dev/zero | tail -c 199m | wc -c", options=options)
        assert "208666624" not in ran.out

    def test_processor_time_of_the_tree(self, capsule: Capsule) -> None:
        options = capsule.policy("limits: {cpu: 300ms}\n")
        ran = capsule.run("sh", "-c", "(while :; do :; done) & while :; do :; done", options=options)
        assert (ran.code, ran.exit["cause"], ran.exit["limit"]) == (124, "limit", "cpu")

    def test_a_fork_bomb_ends(self, capsule: Capsule) -> None:
        options = capsule.policy("limits: {processes: 40}\n")
        ran = capsule.run("sh", "-c", "f() { f | f & }; f; sleep 5", options=[*options, "--timeout", "5"])
        assert ran.code in (0, 2, 124, 254)
        assert until(lambda: not alive("f() { f | f & }; f; sleep 5"))

    def test_processes_after_a_long_rest(self, capsule: Capsule) -> None:
        options = capsule.policy("limits: {processes: 20}\n")
        # It is looked at seldom by now; as an ordinary user the kernel refuses the twentieth itself.
        script = "sleep 4; for n in $(seq 40); do sleep 60 & done; sleep 60"
        ran = capsule.run("sh", "-c", script, options=[*options, "--timeout", "30"])
        if os.geteuid() == 0:
            assert (ran.code, ran.exit["cause"], ran.exit["limit"]) == (124, "limit", "processes")
        else:
            assert ran.code != 0
        assert until(lambda: not alive("seq 40"))

    def test_file_size(self, capsule: Capsule) -> None:
        options = capsule.policy("limits: {file_size: 1MiB}\n")
        capsule.run("sh", "-c", "head -c 5m /dev/zero > big", options=options)
        assert (capsule.workspace / "big").stat().st_size == 1 << 20

    def test_private_file_systems_are_bounded(self, capsule: Capsule) -> None:
        options = capsule.policy("limits: {disk: 1MiB}\n")
        ran = capsule.run("sh", "-c", "head -c 5m /dev/zero > /tmp/big; wc -c < /tmp/big", options=options)
        assert int(ran.out) <= 1 << 20


class TestTheEndOfTheTree:
    def test_a_timeout_reaches_grandchildren_in_sessions_of_their_own(self, capsule: Capsule) -> None:
        marker = uuid.uuid4().hex
        script = f"setsid sh -c 'trap \"\" TERM; sleep 60; : {marker}' {marker} & trap '' TERM; sleep 60"
        assert capsule.run("sh", "-c", script, options=["--timeout", "0.5"]).code == 124
        assert until(lambda: not alive(marker)), alive(marker)

    def test_what_the_command_leaves_behind_ends_with_it(self, capsule: Capsule) -> None:
        marker = uuid.uuid4().hex
        assert capsule.run("sh", "-c", f"setsid sh -c 'sleep 60; :' {marker} & exit 0").code == 0
        assert until(lambda: not alive(marker)), alive(marker)

    def test_a_killed_supervisor_takes_everything_along(self, capsule: Capsule) -> None:
        marker = uuid.uuid4().hex
        process = subprocess.Popen(
            capsule.command("sh", "-c", "sleep 60; :", marker),
            cwd=capsule.workspace, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL,
        )  # fmt: skip
        # The supervisor has the marker among its arguments too.
        assert until(lambda: len(alive(marker)) >= 2)
        process.kill()
        process.wait()
        assert until(lambda: not alive(marker)), alive(marker)

    @pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
    def test_a_signal_is_passed_on(self, capsule: Capsule, number: signal.Signals) -> None:
        script = f"trap 'echo got; exit 7' {number.name[3:]}; echo ready; while :; do sleep 0.05; done"
        with subprocess.Popen(
            capsule.command("sh", "-c", script), cwd=capsule.workspace,
            stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, text=True,
        ) as process:  # fmt: skip
            assert process.stdout is not None
            assert process.stdout.readline() == "ready\n"
            process.send_signal(number)
            assert process.stdout.read() == "got\n"
            assert process.wait(timeout=20) == 7

    def test_a_second_interrupt_kills(self, capsule: Capsule) -> None:
        with subprocess.Popen(
            capsule.command("sh", "-c", "trap '' INT; echo ready; while :; do sleep 0.05; done"),
            cwd=capsule.workspace, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, text=True,
        ) as process:  # fmt: skip
            assert process.stdout is not None
            assert process.stdout.readline() == "ready\n"
            process.send_signal(signal.SIGINT)
            time.sleep(0.2)
            assert process.poll() is None
            process.send_signal(signal.SIGINT)
            assert process.wait(timeout=20) == 130


class TestRefusals:
    def test_a_log_that_cannot_be_written_runs_nothing(self, capsule: Capsule) -> None:
        (capsule.workspace / "capsule.log").mkdir()
        ran = capsule.run("touch", "made")
        assert (ran.code, ran.exit["cause"]) == (125, "refused")
        assert not (capsule.workspace / "made").exists()

    def test_an_unknown_key_in_the_policy_runs_nothing(self, capsule: Capsule) -> None:
        ran = capsule.run("touch", "made", options=capsule.policy("filesytem: {}\n"))
        assert ran.code == 125
        assert "filesystem" in ran.exit["reason"]
        assert not (capsule.workspace / "made").exists()

    def test_a_layer_that_is_required_and_missing_refuses(self, capsule: Capsule) -> None:
        options = [*capsule.policy("require: [cgroup]\n"), "--allow-degraded", "supervisor"]
        ran = capsule.run("touch", "made", options=options)
        assert ran.code == 125
        assert "cgroup" in ran.exit["reason"]
        assert not (capsule.workspace / "made").exists()


class TestTheRecord:
    def test_a_run_is_on_the_log_from_start_to_end(self, capsule: Capsule) -> None:
        ran = capsule.run("sh", "-c", "exit 3")
        entries = [
            entry
            for line in (capsule.workspace / "capsule.log").read_text().splitlines()
            if (entry := json.loads(line)).get("run") == ran.report["run"]
        ]
        kinds = [entry["type"] for entry in entries]
        assert kinds[0] == "run.started"
        assert kinds[-1] == "run.ended"
        assert "exec" in kinds
        assert entries[0]["enforced"]["tier"] == "full"
        assert entries[0]["enforced"] == ran.report["enforced"]
        assert entries[-1]["exit"]["code"] == 3
        assert [entries[0]["seq"], entries[-1]["seq"]] == [
            ran.report["log"]["first"],
            ran.report["log"]["last"],
        ]

    def test_the_log_verifies(self, capsule: Capsule) -> None:
        for _ in range(3):
            capsule.run("true")
        done = subprocess.run(
            [str(capsule.binary), "verify", "capsule.log"],
            cwd=capsule.workspace,
            capture_output=True,
            check=False,
        )
        assert done.returncode == 0, done.stdout

    def test_the_report_goes_to_a_descriptor(self, capsule: Capsule) -> None:
        reading, writing = os.pipe()
        done = subprocess.run(
            capsule.command("true", options=["--report-fd", str(writing)]),
            cwd=capsule.workspace, pass_fds=[writing], capture_output=True, check=True,
        )  # fmt: skip
        os.close(writing)
        with os.fdopen(reading) as file:
            report = json.loads(file.read())
        assert report["exit"]["cause"] == "exited"
        assert done.stderr == b""


class TestTerminal:
    def talk(
        self, capsule: Capsule, words: list[str], lines: list[tuple[bytes, bytes]], expected: bytes
    ) -> tuple[bytes, int]:
        """Run words in the sandbox, on a terminal."""
        return talk(capsule.command(*words), capsule.workspace, lines, expected)

    def test_the_command_has_a_terminal_of_its_own(self, capsule: Capsule) -> None:
        said, code = self.talk(
            capsule, ["sh", "-c", "tty; test -t 0 && test -t 1 && test -t 2 && echo all"], [], b"all"
        )
        assert b"/dev/pts/0" in said
        assert code == 0

    def test_interrupt_from_the_keyboard(self, capsule: Capsule) -> None:
        script = "trap 'echo caught; exit 5' INT; echo ready; while :; do sleep 0.05; done"
        _, code = self.talk(capsule, ["sh", "-c", script], [(b"ready", b"\x03")], b"caught")
        assert code == 5

    def test_job_control_in_a_shell(self, capsule: Capsule) -> None:
        lines = [
            (b"bash-", b"PS1='at''-prompt '\n"),
            (b"at-prompt ", b"echo sleep''ing; sleep 50\n"),
            (b"sleeping", b"\x1a"),
            (b"Stopped", b"kill -9 %1; sleep 0.5; jobs; echo done-$((1+1)); exit 4\n"),
        ]
        said, code = self.talk(capsule, ["bash", "--norc", "-i"], lines, b"done-2")
        assert b"Stopped" in said
        assert code == 4, said

    def test_nothing_can_be_typed_into_the_terminal(self, capsule: Capsule) -> None:
        script = "import fcntl; fcntl.ioctl(0, 0x5412, b'x')"
        _, code = self.talk(capsule, ["/usr/bin/python3", "-c", script], [], b"not permitted")
        assert code == 1
