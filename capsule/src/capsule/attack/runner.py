"""Run cases: once under the user's policy, once without any sandbox, and compare what the host saw.

The order of proof: harm under the policy is a FAIL, whatever else is true. No harm is a PASS only when
the act was seen to start and to end, and when the same act without a sandbox does do harm on this host.
Everything else is INCONCLUSIVE, with the reason.

    with Arena(capsule="/usr/bin/capsule", extends="workspace") as arena:
        result = arena.judge(case)
"""

from __future__ import annotations

import contextlib
import json
import os
import secrets
import selectors
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterable, Sequence
from importlib import resources
from pathlib import Path
from types import TracebackType
from typing import Self

from capsule.attack import host
from capsule.attack.case import Act, Case, Launch, Result, Verdict, text_of
from capsule.attack.stage import Stage, remove

KEPT_OUTPUT = 4 << 20
SLACK = 6.0
# What an act may use without importing it: the same modules its file imports at the top.
IMPORTS = "contextlib, mmap, signal, socket, stat, struct, subprocess"
PYTHONS = ("/usr/bin/python3", "/usr/local/bin/python3", "/opt/homebrew/bin/python3")


class Arena:
    """A directory of ours for the whole corpus, the binary under test, and the policy it is given."""

    def __init__(
        self, *, capsule: str, extends: str, parent: str | None = None, variables: Iterable[str] = ()
    ) -> None:
        """Name the parts; nothing is made before the `with` block.

        Args:
            capsule: Path of the native binary.
            extends: The user's policy file (absolute), or the name of a preset.
            parent: Directory to work in; /var/tmp or the system's temporary directory when None.
            variables: Those that the policy's secrets come from; made-up values stand in them, never the user's.
        """
        self._made_up = {name: f"made-up-{secrets.token_hex(16)}" for name in variables}
        self.capsule, self.extends = capsule, extends
        self._parent = parent or ("/var/tmp" if os.access("/var/tmp", os.W_OK) else None)
        self.base = Path()
        self.python = ""
        self.unfit = ""
        self._racer: Path | str = ""

    def __enter__(self) -> Self:
        """Make the directory and find an interpreter that runs under the policy."""
        self.base = Path(tempfile.mkdtemp(prefix="capsule-attack-", dir=self._parent))
        try:
            self.unfit = self._find_python()
        except BaseException:
            self.__exit__(None, None, None)
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Remove everything that was made; whoever carried requests for the runs ends first."""
        token = str(self.base / "state")
        host.end(host.named(token), signal.SIGTERM)
        until = time.monotonic() + 10
        while host.named(token) and time.monotonic() < until:
            time.sleep(0.05)
        host.end(host.named(token))
        remove(self.base)

    def _find_python(self) -> str:
        reason = "no Python interpreter was found on the host"
        tried = dict.fromkeys((*PYTHONS, shutil.which("python3") or "", os.path.realpath(sys.executable)))
        for candidate in filter(os.path.exists, tried):
            case = Case("probe", 0, "an interpreter starts", _breathe, lambda _: None)
            self.python = candidate
            stage = self.perform(case, confined=True)
            if b"#done" in stage.out:
                return ""
            reason = _why_not(stage) or f"{candidate} does not start under this policy: {_tail(stage.err)}"
            if stage.report.get("exit", {}).get("cause") == "refused":  # type: ignore[attr-defined]
                break
        return reason

    def racer(self) -> str:
        """Path of the compiled C race program (made once), for a copy into the stage."""
        if not self._racer:
            compiler = next(filter(None, map(shutil.which, ("cc", "gcc", "clang"))))
            source, self._racer = self.base / "race.c", self.base / "race"
            source.write_text(resources.files("capsule.attack").joinpath("race.c").read_text())
            words = [compiler, "-O2", "-static", "-pthread", "-o", str(self._racer), str(source)]
            if subprocess.run(words, capture_output=True, check=False).returncode:
                words.remove("-static")
                subprocess.run(words, capture_output=True, check=True)
        return str(self._racer)

    def judge(self, case: Case) -> Result:
        """Attack, look, and when nothing was hurt, prove that something could have been."""
        began = time.monotonic()

        def result(verdict: Verdict, why: str) -> Result:
            return Result(case, verdict, why, time.monotonic() - began)

        for need in case.needs:
            missing = host.offers(need)
            if missing:
                return result(Verdict.INCONCLUSIVE, missing)
        if self.unfit and not case.refusal_holds:
            return result(Verdict.INCONCLUSIVE, self.unfit)
        stage = self.perform(case, confined=True)
        harm = stage.notes.get("verdict")
        if harm:
            return result(Verdict.FAIL, str(harm))
        if stage.overran:
            return result(Verdict.FAIL, "the run went on after its timeout")
        cause = stage.report.get("exit", {}).get("cause")  # type: ignore[attr-defined]
        # A case whose look kills the supervisor gets no report; that it stood ready is what it has to show.
        killed = case.may_die and case.during is not None and b"#ready" in stage.out
        if cause in {"refused", "failed"} or (not stage.report and not killed):
            if case.refusal_holds and cause == "refused":
                return result(Verdict.PASS, "capsule refuses to start: " + _why_not(stage))
            return result(Verdict.INCONCLUSIVE, _why_not(stage))
        if b"#start" not in stage.out or not (b"#done" in stage.out or case.may_die):
            return result(Verdict.INCONCLUSIVE, "the act did not run to its end: " + _tail(stage.err))
        if case.tried_without:
            return result(Verdict.PASS, case.tried_without)
        control = self.perform(case, confined=False)
        proof = control.notes.get("verdict")
        if not proof:
            why = "without a sandbox the act does no harm here either: "
            return result(Verdict.INCONCLUSIVE, why + _tail(control.err))
        return result(Verdict.PASS, f"held; without a sandbox: {proof}")

    def perform(self, case: Case, *, confined: bool) -> Stage:
        """Build a stage, run the act on it, judge, and clean up. The verdict is in `notes["verdict"]`."""
        stage = Stage(self.base, extends=self.extends, confined=confined, capsule=self.capsule)
        stage.notes["arena"] = self
        try:
            stage.build(case.launch)
            stage.environment = self._environment(stage, case.launch)
            if case.prepare:
                case.prepare(stage)
            stage.remember()
            act = case.act if confined or case.control is None else case.control
            self._run(stage, case, act)
            stage.notes["verdict"] = case.judge(stage)
        finally:
            host.end(host.named(stage.id))
            stage.close()
        return stage

    def _environment(self, stage: Stage, launch: Launch) -> dict[str, str]:
        kept = {name: value for name, value in os.environ.items() if name in {"PATH", "LANG", "TERM"}}
        kept |= {"HOME": str(stage.home), "XDG_CACHE_HOME": str(self.base / "cache")}
        places = {"ws": stage.ws, "home": stage.home, "outside": stage.outside, "secret": stage.secret}
        places["state"] = self.base / "state"
        places["PATH"] = kept.get("PATH", "/usr/bin:/bin")
        kept |= self._made_up
        return kept | {name: text.format(**places) for name, text in launch.environment.items()}

    def _words(self, stage: Stage, launch: Launch, report: int) -> list[str]:
        # Always the stage's own log: an attack started in "/" must not leave one there.
        words = [self.capsule, "run", "--log", str(stage.log)]
        if not launch.bare:
            words += ["--policy", str(stage.ws / "capsule.yaml")]
        words += [
            "--timeout",
            f"{launch.seconds:g}",
            "--report-fd",
            str(report),
            *(word.format(secret=stage.secret) for word in launch.arguments),
            "--",
        ]
        return words

    def _run(self, stage: Stage, case: Case, act: Act) -> None:
        text = resources.files("capsule.attack").joinpath("inside.py").read_text()
        text += f"\nimport {IMPORTS}\n\n\n{text_of(act)}\n\nperform({act.__name__})\n"
        words = [self.python, "-I", "-c", text, stage.told()]
        words += [word.format(secret=stage.secret) for word in case.launch.words]
        report = self.base / "report.json"
        with contextlib.ExitStack() as held:
            descriptor = os.open(report, os.O_RDWR | os.O_CREAT | os.O_TRUNC, 0o600)
            held.callback(os.close, descriptor)
            if stage.confined:
                words = self._words(stage, case.launch, descriptor) + words
            stdin = subprocess.PIPE if case.launch.listens else stage.stdin
            began = time.monotonic()
            stage.process = subprocess.Popen(
                words,
                cwd=stage.root / case.launch.cwd,
                env=stage.environment,
                stdin=subprocess.DEVNULL if stdin is None else stdin,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                pass_fds=(*([descriptor] if stage.confined else []), *stage.descriptors),
                start_new_session=True,
            )
            try:
                limit = case.launch.seconds + (SLACK if stage.confined else 0)
                stage.overran = not _attend(stage, case, began + limit)
                if stage.overran:
                    stage.process.kill()
                    _drain(stage)
            finally:
                stage.process.kill()
                stage.process.wait()
                for pipe in (stage.process.stdin, stage.process.stdout, stage.process.stderr):
                    if pipe:
                        with contextlib.suppress(OSError):
                            pipe.close()
            stage.elapsed = time.monotonic() - began
        with contextlib.suppress(ValueError):
            stage.report = json.loads(report.read_bytes() or b"{}")


def _attend(stage: Stage, case: Case, until: float) -> bool:
    """Read both pipes until the command has ended; look when it is ready. False when it overran."""
    process = stage.process
    assert process
    assert process.stdout
    assert process.stderr
    looked = case.during is None
    with selectors.DefaultSelector() as selector:
        selector.register(process.stdout, selectors.EVENT_READ)
        selector.register(process.stderr, selectors.EVENT_READ)
        while time.monotonic() < until:
            for key, _ in selector.select(0.05):
                pipe = key.fileobj
                data = os.read(key.fd, 1 << 16)
                if not data:
                    selector.unregister(pipe)
                elif pipe is process.stdout:
                    stage.out_total += len(data)
                    stage.out = (
                        (stage.out + data)[:KEPT_OUTPUT] if len(stage.out) < KEPT_OUTPUT else stage.out
                    )
                else:
                    stage.err = (stage.err + data)[-KEPT_OUTPUT:]
            if not looked and b"#ready" in stage.out:
                looked = True
                assert case.during
                case.during(stage)
                if process.stdin:
                    process.stdin.close()
            if process.poll() is not None:
                _drain(stage)
                return True
    return False


def _drain(stage: Stage) -> None:
    """Take what is already in the pipes, without waiting for whoever still holds them open."""
    process = stage.process
    assert process
    assert process.stdout
    assert process.stderr
    for pipe, keep in ((process.stdout, "out"), (process.stderr, "err")):
        os.set_blocking(pipe.fileno(), False)
        with contextlib.suppress(BlockingIOError, OSError):
            while data := os.read(pipe.fileno(), 1 << 16):
                if keep == "out":
                    stage.out_total += len(data)
                if len(getattr(stage, keep)) < KEPT_OUTPUT:
                    setattr(stage, keep, getattr(stage, keep) + data)


def _why_not(stage: Stage) -> str:
    end = stage.report.get("exit", {})
    assert isinstance(end, dict)
    if end.get("cause") in {"refused", "failed", "not_found", "not_executable"}:
        return f"{end['cause']}: {end.get('reason') or _tail(stage.err)}"
    return "" if stage.report else "capsule left no report: " + _tail(stage.err)


def _tail(text: bytes) -> str:
    lines = [line for line in text.decode(errors="replace").splitlines() if line.strip()]
    return lines[-1][:160] if lines else "nothing was said"


def _breathe(a: object) -> None:
    """An act that does nothing: proves that an interpreter starts."""


def run_all(arena: Arena, cases: Sequence[Case]) -> list[Result]:
    """Every case in turn, in the order given."""
    return [arena.judge(case) for case in cases]
