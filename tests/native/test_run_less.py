"""`capsule run` where the host gives less: a container's filter, no Landlock, another supervisor, a run around the run.

What can be done without is done without only when it was said, by name; what is left is enforced and told.
"""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from tests.native.filters import CONTAINER, FOREIGN_SUPERVISOR, NO_LANDLOCK, STRICT_CONTAINER
from tests.native.running import Capsule

pytestmark = [pytest.mark.needs("userns", "landlock", "seccomp-notify"), pytest.mark.timeout(120)]


def without(*layers: str) -> list[str]:
    return [word for layer in layers for word in ("--allow-degraded", layer)]


@pytest.fixture
def capsule(capsule_binary: Path, workspace: Path, home: Path) -> Capsule:
    return Capsule(capsule_binary, workspace)


@pytest.fixture
def elsewhere(tmp_path: Path) -> list[str]:
    """A log that lies in nothing a command may write."""
    (tmp_path / "logs").mkdir()
    return ["--log", str(tmp_path / "logs" / "capsule.log")]


class TestInAContainer:
    def test_nothing_runs_and_the_whole_line_is_said(self, capsule: Capsule) -> None:
        ran = capsule.inside((sys.executable, "-c", CONTAINER)).run("touch", "made")
        assert (ran.code, ran.exit["cause"]) == (125, "refused")
        assert ran.exit["reason"].endswith(
            "to run without: --allow-degraded namespaces --allow-degraded network"
        )
        assert not (capsule.workspace / "made").exists()

    def test_what_is_left_is_enforced(self, capsule: Capsule, home: Path, tmp_path: Path) -> None:
        script = f"echo in > inside; echo x > {tmp_path}/outside; cat {home}/.ssh/id_ed25519; echo x > .envrc; exit 6"
        ran = capsule.inside((sys.executable, "-c", CONTAINER)).run(
            "sh", "-c", script, options=without("namespaces", "network")
        )
        assert ran.code == 6, ran.err
        assert ran.report["enforced"]["tier"] == "confined"
        assert ran.report["enforced"]["degraded"] == ["namespaces", "network"]
        assert (capsule.workspace / "inside").read_text() == "in\n"
        assert not (tmp_path / "outside").exists()
        assert not (capsule.workspace / ".envrc").exists()
        assert "DECOY" not in ran.out

    def test_descriptors_that_cannot_be_fetched_take_the_supervisor(
        self, capsule: Capsule, tmp_path: Path, elsewhere: list[str]
    ) -> None:
        inside = capsule.inside((sys.executable, "-c", STRICT_CONTAINER))
        ran = inside.run("touch", "made", options=without("namespaces", "network"))
        assert ran.code == 125
        assert "SYS_PTRACE" in ran.exit["reason"]
        assert ran.exit["reason"].endswith("--allow-degraded supervisor")
        ran = inside.run(
            "sh", "-c", f"echo in > inside; echo x > {tmp_path}/outside; exit 6",
            options=[*elsewhere, *without("namespaces", "network", "supervisor")],
        )  # fmt: skip
        assert ran.code == 6, ran.err
        assert (capsule.workspace / "inside").exists()
        assert not (tmp_path / "outside").exists()


class TestWithoutLandlock:
    def test_nothing_runs_unless_it_was_said(self, capsule: Capsule) -> None:
        ran = capsule.inside((sys.executable, "-c", NO_LANDLOCK)).run("touch", "made")
        assert ran.code == 125
        assert ran.exit["reason"].endswith("to run without: --allow-degraded landlock")
        assert not (capsule.workspace / "made").exists()

    def test_the_view_and_the_broker_hold(self, capsule: Capsule, home: Path, tmp_path: Path) -> None:
        script = f"echo in > inside; echo x > {tmp_path}/outside; cat {home}/.ssh/id_ed25519; echo x > .envrc; exit 6"
        ran = capsule.inside((sys.executable, "-c", NO_LANDLOCK)).run(
            "sh", "-c", script, options=without("landlock")
        )
        assert ran.code == 6, ran.err
        assert (ran.report["enforced"]["tier"], ran.report["enforced"]["landlock_abi"]) == ("reduced", 0)
        assert (capsule.workspace / "inside").exists()
        assert not (tmp_path / "outside").exists()
        assert not (capsule.workspace / ".envrc").exists()
        assert "DECOY" not in ran.out


class TestUnderAnotherSupervisor:
    def test_nothing_runs_unless_it_was_said(self, capsule: Capsule) -> None:
        ran = capsule.inside((sys.executable, "-c", FOREIGN_SUPERVISOR)).run("touch", "made")
        assert ran.code == 125
        assert ran.exit["reason"].endswith("to run without: --allow-degraded supervisor")
        assert not (capsule.workspace / "made").exists()

    def test_a_log_in_reach_of_the_command_is_refused(self, capsule: Capsule) -> None:
        ran = capsule.inside((sys.executable, "-c", FOREIGN_SUPERVISOR)).run(
            "touch", "made", options=without("supervisor")
        )
        assert ran.code == 125
        assert "nothing keeps it" in ran.exit["reason"]
        assert not (capsule.workspace / "made").exists()

    def test_the_lines_that_do_not_hold_are_told(
        self, capsule: Capsule, home: Path, tmp_path: Path, elsewhere: list[str]
    ) -> None:
        inside = capsule.inside((sys.executable, "-c", FOREIGN_SUPERVISOR))
        script = f"echo x > .envrc; echo x > {tmp_path}/outside; cat {home}/.ssh/id_ed25519"
        words = inside.command("sh", "-c", script, options=[*elsewhere, *without("supervisor")])
        ran = capsule.tell(words)
        assert "do not hold: " in ran.stderr
        assert "protect ${workspace}/.envrc (preset:workspace:" in ran.stderr
        # The view keeps the home, so its lines hold.
        assert ".ssh (" not in ran.stderr
        assert (capsule.workspace / ".envrc").exists()
        assert not (tmp_path / "outside").exists()
        assert "DECOY" not in ran.stdout


class TestInsideARun:
    def test_it_says_what_to_do_instead(self, capsule: Capsule, tmp_path: Path) -> None:
        binary = capsule.workspace / "capsule"
        binary.write_bytes(capsule.binary.read_bytes())
        binary.chmod(0o755)
        everything = without("namespaces", "network", "landlock", "supervisor")
        for options in ([], everything):
            ran = capsule.run(
                "./capsule", "run", "--log", "inner.log", *options, "--", "touch", "made",
                env={"XDG_DATA_HOME": str(tmp_path / "data")},
            )  # fmt: skip
            assert ran.code == 125
            assert "a run inside a run" in ran.err
            assert "run it without capsule" in ran.err
            # No word about what helps a container, and no line to add to the outer policy: neither helps here.
            assert "container" not in ran.err
            assert not [denial for denial in ran.report["denials"] if not denial["probe"]]
        assert not (capsule.workspace / "made").exists()
        assert not (capsule.workspace / "inner.log").exists()


def test_a_policy_that_shows_nothing_where_the_run_starts_says_what_to_do(
    capsule: Capsule, home: Path
) -> None:
    place = home / "work"
    place.mkdir()
    (place / "p.yaml").write_text("version: 1\nname: p\nextends: [strict]\n")
    ran = Capsule(capsule.binary, place).run(
        "true", options=["--policy", "./p.yaml", "--log", str(home / "p.log")]
    )
    assert (ran.code, ran.exit["cause"]) == (125, "refused")
    assert f"enter {place}" in ran.exit["reason"]
    assert "filesystem: {read: [.]}" in ran.exit["reason"]
