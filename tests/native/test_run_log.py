"""What runs leave on their log when a command is zealous, or when the log was copied."""

from __future__ import annotations

import json
import os
import shlex
import shutil
import subprocess
from pathlib import Path

import pytest

from tests.native.log import Log
from tests.native.running import Capsule

pytestmark = [pytest.mark.needs("userns", "landlock", "seccomp-notify"), pytest.mark.timeout(120)]

MOST = 512
"""Entries of one kind: capsule/native/src/supervise/excess.rs."""


@pytest.fixture
def capsule(capsule_binary: Path, workspace: Path, home: Path) -> Capsule:
    return Capsule(capsule_binary, workspace)


def entries(path: Path) -> list[dict[str, object]]:
    return [json.loads(line) for line in path.read_text().splitlines() if line.startswith('{"seq"')]


class TestZeal:
    @pytest.fixture(autouse=True)
    def hooks(self, workspace: Path) -> None:
        (workspace / ".git" / "hooks").mkdir(parents=True)

    def test_refusals_beyond_a_bound_are_counted_and_none_is_lost(self, capsule: Capsule) -> None:
        tries = 3000
        script = f"""
for n in range({tries}):
    try: open(f".git/hooks/new-{{n}}", "w")
    except OSError: pass
"""
        ran = capsule.run("/usr/bin/python3", "-c", script)
        assert ran.code == 0, ran.err
        assert ran.report["denials_total"] >= tries
        found = entries(capsule.workspace / "capsule.log")
        listed = [entry for entry in found if entry["type"] == "denied" and "/new-" in str(entry["target"])]
        lost = [entry["lost"] for entry in found if entry["type"] == "gap"]
        assert len(listed) <= MOST
        assert 0 < len(lost) < 40
        counted = sum(int(str(entry["count"])) for entry in listed) + sum(int(str(number)) for number in lost)
        assert counted == tries
        assert Log(capsule.binary, capsule.workspace / "capsule.log").verify()[:2] == ("verified", 0)

    def test_what_is_below_the_bound_is_all_there(self, capsule: Capsule) -> None:
        script = "for n in 1 2 3; do echo x > .git/hooks/new-$n; done"
        capsule.run("sh", "-c", script)
        found = entries(capsule.workspace / "capsule.log")
        denied = [entry for entry in found if entry["type"] == "denied"]
        assert sum("/new-" in str(entry["target"]) for entry in denied) == 3
        assert not [entry for entry in found if entry["type"] == "gap"]


class TestCopies:
    @pytest.fixture
    def places(self, capsule: Capsule, tmp_path: Path) -> tuple[Path, Path]:
        """A log of one run, and a copy of it in another directory."""
        assert capsule.run("true").code == 0
        other = tmp_path / "other"
        other.mkdir()
        first, second = capsule.workspace / "capsule.log", other / "capsule.log"
        shutil.copyfile(first, second)
        second.chmod(0o600)
        return first, second

    def test_a_copy_is_gone_on_with_and_the_first_is_told_as_what_it_is(
        self, capsule: Capsule, places: tuple[Path, Path]
    ) -> None:
        first, second = places
        assert capsule.run("true", options=["--log", str(second)]).code == 0
        assert Log(capsule.binary, second).verify()[:2] == ("verified", 0)
        outcome, code, report = Log(capsule.binary, first).verify()
        assert (outcome, code) == ("rolled_back", 16)
        assert f"it is an older copy of {second}" in report["fault"]["why"]
        ran = capsule.run("true")
        assert (ran.code, ran.exit["cause"]) == (125, "refused")
        assert str(second) in ran.exit["reason"]
        # The refusal ends with the command that goes on.
        command = shlex.split(ran.exit["reason"].partition("that names this one: ")[2])
        assert command[0] == "mv"
        Path(command[1]).rename(command[2])
        assert capsule.run("true").code == 0
        assert Log(capsule.binary, first).verify()[0] == "verified"

    def test_two_histories_from_one_head(
        self, capsule: Capsule, places: tuple[Path, Path], tmp_path: Path
    ) -> None:
        first, second = places
        common = len(entries(first))
        assert capsule.run("true", options=["--log", str(second)]).code == 0
        assert capsule.run("true", options=["--log", str(second)]).code == 0
        # The first went on too, where nothing was remembered of the second: the same key, another memory.
        assert capsule.run("true", env={"XDG_STATE_HOME": str(tmp_path / "state")}).code == 0
        outcome, code, report = Log(capsule.binary, first).verify()
        assert (outcome, code) == ("forked", 17)
        why = report["fault"]["why"]
        assert f"it and {second} have their first {common} entries in common" in why
        assert "two histories from one head" in why
        assert "two histories from one head" in Log(capsule.binary, first).call("verify", first).stdout

    def test_where_the_other_is_gone_it_is_said_what_is_not_known(
        self, capsule: Capsule, places: tuple[Path, Path]
    ) -> None:
        first, second = places
        assert capsule.run("true", options=["--log", str(second)]).code == 0
        second.unlink()
        outcome, _, report = Log(capsule.binary, first).verify()
        assert outcome == "rolled_back"
        assert f"last written to {second}, another file, which cannot be compared" in report["fault"]["why"]


class TestLinks:
    """A log named through a link: the command must not lead the next run's log elsewhere."""

    def test_the_links_on_the_way_are_kept(self, capsule: Capsule) -> None:
        place = capsule.workspace
        (place / "real").mkdir()
        (place / "ll").symlink_to("real")
        (place / "free").symlink_to("real")
        attack = (
            "rm ll; mv ll gone; ln -sfn /tmp new; mv -T new ll; mv real moved; rm free && echo free-went; "
            "readlink ll; exit 0"
        )
        ran = capsule.run("sh", "-c", attack, options=["--log", "ll/b.log"])
        assert ran.code == 0, ran.err
        # Seen from the host; the control is the other link, which went.
        assert os.readlink(place / "ll") == "real"
        assert not (place / "free").is_symlink()
        assert (place / "real" / "b.log").is_file()
        reasons = {denial["rule"]["text"] for denial in ran.report["denials"] if denial["rule"]}
        assert "a link on the way to the log of this run" in reasons

    def test_a_log_that_is_a_link_itself(self, capsule: Capsule) -> None:
        place = capsule.workspace
        assert capsule.run("true", options=["--log", "real.log"]).code == 0
        (place / "capsule.log").symlink_to("real.log")
        ran = capsule.run("sh", "-c", "rm -f capsule.log; ln -sfn x capsule.log; true")
        assert ran.code == 0, ran.exit
        assert os.readlink(place / "capsule.log") == "real.log"


class TestOthers:
    """The logs of other runs lie where this run may write: below its workspace, or under a name of their own."""

    ATTACK = (
        "for log in capsule.log below/capsule.log audit/one.log; do ln $log second; chmod 666 $log; "
        "echo forged >> $log; true > $log; rm -f $log; mv $log $log.gone; ln -sfn nowhere $log; done; "
        "mv audit gone; echo begun > new/capsule.log; echo free > below/free.log; exit 0"
    )

    @pytest.fixture
    def logs(self, capsule: Capsule) -> list[Path]:
        place = capsule.workspace
        for name in ("below", "audit", "new"):
            (place / name).mkdir()
        below = Capsule(capsule.binary, place / "below")
        assert below.run("true").code == 0
        assert capsule.run("true", options=["--log", "audit/one.log"]).code == 0
        return [place / "below/capsule.log", place / "audit/one.log"]

    def test_no_run_changes_the_log_of_another(self, capsule: Capsule, logs: list[Path]) -> None:
        before = [log.read_bytes() for log in logs]
        ran = capsule.run("sh", "-c", self.ATTACK)
        assert ran.code == 0, ran.err
        assert [log.read_bytes() for log in logs] == before
        for log in logs:
            assert Log(capsule.binary, log).verify()[:2] == ("verified", 0)
            assert log.stat().st_mode & 0o777 == 0o600
        # None is begun for a later run either.
        assert not (capsule.workspace / "new/capsule.log").exists()
        assert (capsule.workspace / "below/free.log").read_text() == "free\n"
        reasons = {denial["rule"]["text"] for denial in ran.report["denials"] if denial["rule"]}
        assert "the log of another run" in reasons

    def test_without_the_sandbox_the_same_commands_do_it(self, capsule: Capsule, logs: list[Path]) -> None:
        subprocess.run(["sh", "-c", self.ATTACK], cwd=capsule.workspace, check=True, capture_output=True)
        assert not any(log.exists() and log.is_file() and not log.is_symlink() for log in logs)
        assert (capsule.workspace / "new/capsule.log").read_text() == "begun\n"
