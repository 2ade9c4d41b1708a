from __future__ import annotations

import sys
from pathlib import Path

import pytest

from capsem.host.confinement import POLICY, PROXY_POLICY, SHARE_POLICY, confined, proxied, sharing
from capsule.sandbox.launcher import find_binary

PRESETS = Path(__file__).parents[3] / "capsule/src/capsule/policy/presets"


def test_qemu_is_put_under_the_policy_with_what_it_inherits_and_nothing_else() -> None:
    line = list(confined(Path("/s/qemu.log"))(["qemu", "-x"], [5, 9]))
    assert line == [
        str(find_binary()), "run", "--policy", POLICY, "--log", "/s/qemu.log", "--pass-fd", "5", "--pass-fd", "9",
        "--", "qemu", "-x",
    ]  # fmt: skip
    boot = list(confined(Path("/s/qemu.log"), reads="/i/vmlinuz")(["qemu"], []))
    assert boot[boot.index("--read") + 1] == "/i"


def test_the_proxy_is_its_interpreter_alone() -> None:
    line = proxied(Path("/s/proxy.log"))
    assert line[:6] == [str(find_binary()), "run", "--policy", PROXY_POLICY, "--log", "/s/proxy.log"]
    assert line[-6:] == ["--", sys.executable, "-I", "-B", "-m", "capsem.processes.proxy"]
    assert line[line.index("--program") + 1] == sys.executable
    text = (PRESETS / "proxy.yaml").read_text()
    assert "mode: none" in text
    assert "open" not in text.partition("network:")[2].partition("syscalls:")[0]


def test_the_share_is_its_interpreter_and_the_directory_it_is_started_in() -> None:
    line = sharing(Path("/s/share.log"), 9)
    assert line[:8] == [
        str(find_binary()), "run", "--policy", SHARE_POLICY, "--log", "/s/share.log", "--pass-fd", "9",
    ]  # fmt: skip
    assert line[-7:] == ["--", sys.executable, "-I", "-B", "-m", "capsem.processes.share", "9"]
    text = (PRESETS / "share.yaml").read_text()
    assert "write: {replace: [/dev/null, .]}" in text
    assert "mode: none" in text


@pytest.mark.parametrize("forbidden", ["network: {mode: open}", "sandboxing"])
def test_the_policy_gives_no_network_and_no_namespaces(forbidden: str) -> None:
    text = (PRESETS / "qemu.yaml").read_text()
    assert forbidden not in text.replace("# No namespaces", "")
