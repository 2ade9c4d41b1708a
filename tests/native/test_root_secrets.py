"""What root alone may read on a host is not what a command that root runs may read."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.native.running import Capsule

pytestmark = [pytest.mark.needs("userns", "landlock", "seccomp-notify", "root"), pytest.mark.timeout(120)]

SHADOW = Path("/etc/shadow")


@pytest.fixture
def capsule(capsule_binary: Path, workspace: Path, home: Path) -> Capsule:
    return Capsule(capsule_binary, workspace)


@pytest.fixture
def host_key() -> Iterator[Path]:
    """A key of the host, made for the test."""
    place = Path("/etc/ssh")
    ours = not place.exists()
    place.mkdir(exist_ok=True)
    key = place / "ssh_host_capsuletest_key"
    key.write_text("DECOY-HOST-KEY\n")
    key.chmod(0o600)
    yield key
    key.unlink()
    if ours:
        place.rmdir()


@pytest.mark.parametrize("more", ["", "filesystem: {deny: ['**/.env']}\n"], ids=["watched", "brokered"])
def test_password_hashes_and_host_keys_cannot_be_read(
    capsule: Capsule, host_key: Path, home: Path, more: str
) -> None:
    # The control: outside, root reads both; inside, their neighbours.
    assert "root:" in SHADOW.read_text()
    # What is capsule's own lies in the hidden home, as a user's does: below /tmp its denies have every read brokered.
    own = {"XDG_DATA_HOME": str(home / ".local/share"), "XDG_STATE_HOME": str(home / ".local/state")}
    script = f"cat {SHADOW} {host_key} /proc/self/root{SHADOW}; head -1 /etc/passwd; ls /etc > /dev/null"
    ran = capsule.run("sh", "-c", script, options=capsule.policy(more), env=own)
    assert ran.out.splitlines() == Path("/etc/passwd").read_text().splitlines()[:1]
    assert ran.err.count("Permission denied") == 3
    targets = {denial["target"]: denial for denial in ran.report["denials"]}
    assert {str(SHADOW), str(host_key)} <= set(targets)
    assert targets[str(SHADOW)]["rule"]["file"] == "capsule:always"
    assert targets[str(SHADOW)]["layer"] == ("supervisor" if more else "view")


def test_no_call_of_root_s_takes_the_cover_off(capsule: Capsule) -> None:
    before = SHADOW.read_bytes()
    script = (
        f"chmod 644 {SHADOW}; umount {SHADOW}; mv {SHADOW} /tmp/x; ln {SHADOW} /tmp/y; cp -a /etc /tmp/etc; "
        f"mount --bind /etc /tmp/etc; cat {SHADOW} /tmp/x /tmp/y /tmp/etc/shadow"
    )
    ran = capsule.run("sh", "-c", f"({script}) 2>/dev/null")
    assert "root:" not in ran.out
    assert SHADOW.read_bytes() == before


def test_a_grant_by_its_own_path_gives_it_back(capsule: Capsule) -> None:
    options = capsule.policy(f"filesystem: {{read: [{SHADOW}]}}\n")
    ran = capsule.run("cat", str(SHADOW), options=options)
    assert (ran.code, ran.out) == (0, SHADOW.read_text())
