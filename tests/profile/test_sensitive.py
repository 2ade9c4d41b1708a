"""What deserves a second look, and what does not."""

import pytest

from capsule.profile.sensitive import why_sensitive, why_sensitive_address


@pytest.mark.parametrize(
    ("path", "writing", "reason"),
    [
        ("/", False, "everything"),
        ("/home/u", False, "whole home"),
        ("/home/u/.ssh/id_ed25519", False, "SSH keys"),
        ("/home/u/.cargo/credentials.toml", False, "index tokens"),
        ("/home/u/.bashrc", True, "next login"),
        ("/home/u/.bashrc", False, None),
        ("/w/.git/hooks/pre-commit", True, "outside the sandbox later"),
        ("/w/.git/hooks/pre-commit", False, None),
        ("/w/.git", True, "covers .git/hooks: runs outside the sandbox later"),
        ("/w/.git", False, None),
        ("/w", True, None),
        ("/home/u/.config", True, "covers ~/.config/gcloud: cloud credentials"),
        ("/home/u/.local/share", False, "covers ~/.local/share/keyrings: passwords"),
        ("/etc", False, "covers /etc/shadow: password hashes"),
        ("/home", False, "covers ~/.ssh: SSH keys"),
        ("/home/u/src", True, None),
        ("/w/.env", False, "looks like a secret"),
        ("/w/src/main.py", True, None),
        ("/usr/lib/x", False, None),
        ("/usr/lib/x", True, "system itself"),
        ("/etc/shadow", False, "password hashes"),
        ("/root/x", False, "home of root"),
        ("/home/u/.sshx", False, None),
    ],
)
def test_reason(path: str, writing: bool, reason: str | None) -> None:
    found = why_sensitive(path, home="/home/u", workspace="/w", writing=writing)
    assert (found is None) == (reason is None)
    assert reason is None or reason in str(found)


def test_roots_own_home_is_judged_like_any_home() -> None:
    assert why_sensitive("/root/.cache/a", home="/root", writing=False) is None
    assert why_sensitive("/root/.ssh/id", home="/root", writing=False) == "SSH keys"


@pytest.mark.parametrize(
    ("address", "reason"),
    [
        ("unix:/run/docker.sock", "engine"),
        ("unix:/run/other.sock", "service of the host"),
        ("tcp:0.0.0.0:80", "every interface"),
        ("tcp:169.254.169.254:80", "metadata"),
        ("tcp:127.0.0.1:5432", None),
    ],
)
def test_addresses(address: str, reason: str | None) -> None:
    found = why_sensitive_address(address)
    assert (found is None) == (reason is None)
    assert reason is None or reason in str(found)
