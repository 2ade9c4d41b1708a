"""What the policy grants and the file's owner does not: told as such, because no line of a policy would help."""

from __future__ import annotations

import os
import pwd

import pytest

from tests.native.running import Capsule

pytestmark = [pytest.mark.needs("userns", "landlock", "seccomp-notify", "root"), pytest.mark.timeout(120)]

# Each line tries one kind of change of a file or directory that belongs to root; the controls are the user's own.
TRIES = {
    "write": "echo x >> theirs/file",
    "create": "echo x > theirs/new",
    "remove": "rm -f theirs/file",
    "rename": "mv theirs/file mine/file",
    "change": "chmod 777 theirs/file",
}


@pytest.fixture
def capsule(as_ordinary_user: Capsule, ordinary_user: pwd.struct_passwd) -> Capsule:
    for name, owner in (("theirs", 0), ("mine", ordinary_user.pw_uid)):
        place = as_ordinary_user.workspace / name
        place.mkdir(mode=0o755)
        (place / "file").write_text("kept\n")
        os.chown(place / "file", owner, -1)
        os.chown(place, owner, -1)
    return as_ordinary_user


@pytest.mark.parametrize("operation", TRIES)
def test_a_refusal_of_the_kernel_is_told_with_its_layer(capsule: Capsule, operation: str) -> None:
    ran = capsule.run(
        "sh", "-c", TRIES[operation] + " 2>/dev/null; " + TRIES[operation].replace("theirs/", "mine/")
    )
    assert (capsule.workspace / "theirs/file").read_text() == "kept\n"
    assert not (capsule.workspace / "theirs/new").exists()
    (denial,) = ran.report["denials"]
    assert denial["operation"] == operation
    assert denial["layer"] == "permissions"
    assert (denial["rule"], denial["allow"], denial.get("probe", False)) == (None, None, False)
    assert denial["errno"] in {"EACCES", "EPERM"}


def test_a_person_is_told_that_no_policy_helps(capsule: Capsule) -> None:
    said = capsule.tell(capsule.command("sh", "-c", "echo x > theirs/file")).stderr
    assert "the file's owner and permissions; nothing in the policy can allow it" in said
    assert "to allow" not in said


def test_the_policy_s_own_refusal_is_told_once(capsule: Capsule) -> None:
    ran = capsule.run("sh", "-c", "echo x > /etc/hostname")
    (denial,) = ran.report["denials"]
    assert denial["layer"] == "supervisor"
