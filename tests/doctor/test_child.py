"""The probes agree with what the host is known to do, and a host that refuses is believed."""

from __future__ import annotations

import json
import subprocess
import sys
from importlib import resources

import pytest

from capsule.doctor.facts import PROBES
from tests.capabilities import absent

TEXT = resources.files("capsule.doctor").joinpath("child.py").read_text()
REFUSE_EVERYTHING = """
import ctypes, errno, struct
libc = ctypes.CDLL(None)
libc.prctl(38, 1, 0, 0, 0)
# unshare, seccomp, landlock_create_ruleset, capset and mount answer EPERM: a container's idea of a host.
numbers = (272, 317, 444, 126, 165)
code = [(0x20, 0, 0, 0)]
for index, number in enumerate(numbers):
    code.append((0x15, len(numbers) - index, 0, number))
code += [(0x06, 0, 0, 0x7FFF0000), (0x06, 0, 0, 0x00050001)]
text = ctypes.create_string_buffer(b"".join(struct.pack("HBBI", *line) for line in code))
libc.prctl(22, 2, struct.pack("HxxxxxxP", len(code), ctypes.addressof(text)), 0, 0)
"""


def probe(name: str, before: str = "") -> dict[str, object]:
    done = subprocess.run(
        [sys.executable, "-I", "-c", before + TEXT, name], capture_output=True, check=True, timeout=30
    )
    answer = json.loads(done.stdout)
    assert isinstance(answer, dict)
    return answer


@pytest.mark.parametrize("name", PROBES)
def test_every_probe_answers(name: str) -> None:
    assert set(probe(name)) == {"ok", "at", "errno", "value"}


@pytest.mark.needs("userns")
@pytest.mark.parametrize("name", ["namespaces", "mounts", "network", "tree_kill"])
def test_a_host_with_namespaces(name: str) -> None:
    assert probe(name)["ok"]


@pytest.mark.needs("landlock")
def test_a_host_with_landlock() -> None:
    assert probe("landlock")["ok"]
    version = probe("landlock_abi")["value"]
    assert isinstance(version, int)
    assert version >= 1


@pytest.mark.needs("seccomp-notify")
def test_a_host_with_a_listener() -> None:
    assert probe("notify")["ok"]


@pytest.mark.skipif(absent("seccomp-notify") is not None, reason="needs seccomp-notify: to refuse with")
@pytest.mark.parametrize(
    ("name", "at"),
    [
        ("namespaces", "unshare"),
        ("network", "unshare"),
        ("seccomp", "filter"),
        ("notify", "listener"),
        ("landlock", "create_ruleset"),
        ("capabilities", "capset"),
    ],
)
def test_a_host_that_refuses(name: str, at: str) -> None:
    answer = probe(name, REFUSE_EVERYTHING)
    assert not answer["ok"]
    assert answer["at"] == at
    assert answer["errno"] == 1
