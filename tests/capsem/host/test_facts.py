from __future__ import annotations

import time
from pathlib import Path

import pytest

from capsem.host import facts
from capsem.vm.plan import Accelerator


def program(tmp_path: Path, text: str) -> Path:
    path = tmp_path / "qemu"
    path.write_text(f"#!/bin/sh\n{text}\n")
    path.chmod(0o755)
    return path


def test_the_clock_is_the_hosts_own_on_x86_only() -> None:
    text = "processor : 0\ncpu MHz\t\t: 2599.996\n"
    assert facts.tsc_khz(text, "x86_64") == 2_599_996
    assert facts.tsc_khz(text, "aarch64") == 1_000_000
    assert facts.tsc_khz("", "x86_64") == 1_000_000


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("echo firmware", ""),
        ("echo firmware; exec sleep 60", "the firmware did not end within 1 s"),
        ("echo firmware; exit 1", "QEMU ended with 1"),
        ("exec sleep 60", "the firmware executed nothing within 1 s"),
        ("echo 'could not access KVM' >&2; exit 1", "could not access KVM"),
        ("exit 3", "QEMU ended with 3"),
    ],
)
@pytest.mark.asyncio
async def test_an_accelerator_counts_when_a_machine_has_run_under_it(
    tmp_path: Path, text: str, why: str
) -> None:
    started = time.monotonic()
    assert await facts.trial(program(tmp_path, text), Accelerator.KVM, seconds=1.0) == why
    assert time.monotonic() - started < 10


@pytest.mark.asyncio
async def test_a_kvm_that_is_there_and_runs_nothing_is_passed_over_and_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    qemu = program(
        tmp_path, 'case "$1" in --version) echo "QEMU emulator version 7.2.22";; *) exec sleep 60;; esac'
    )
    monkeypatch.setattr(
        facts, "_unusable", lambda accelerator: "" if accelerator is Accelerator.KVM else "not macOS"
    )
    monkeypatch.setattr(facts, "TRIAL_SECONDS", 0.5)
    monkeypatch.setattr(facts.trial, "__defaults__", (0.5,))
    found = await facts.host_facts(qemu)
    assert found.accelerator is Accelerator.TCG
    assert found.why == "kvm: the firmware executed nothing within 0.5 s"
    assert found.qemu == "7.2.22"


@pytest.mark.asyncio
async def test_a_trial_is_kept_until_qemu_is_another(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    version = (
        'case "$1" in --version) echo "QEMU emulator version 7.2.22";; *) echo x >>"$0.tried"; echo x;; esac'
    )
    qemu, kept = program(tmp_path, version), tmp_path / "host.json"
    monkeypatch.setattr(
        facts, "_unusable", lambda accelerator: "" if accelerator is Accelerator.KVM else "not macOS"
    )

    async def tried() -> int:
        assert (await facts.host_facts(qemu, kept=kept)).accelerator is Accelerator.KVM
        return len((tmp_path / "qemu.tried").read_text().split())

    assert [await tried(), await tried()] == [1, 1]
    kept.write_bytes(b"{")
    assert await tried() == 2, "what cannot be read is found out again"
    qemu.write_text(qemu.read_text() + "\n")
    assert await tried() == 3, "another QEMU is tried again"


@pytest.mark.asyncio
async def test_an_accelerator_under_which_nothing_boots_is_passed_over_from_then_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    qemu = program(tmp_path, 'case "$1" in --version) echo "QEMU emulator version 7.2.22";; *) echo x;; esac')
    monkeypatch.setattr(
        facts, "_unusable", lambda accelerator: "" if accelerator is Accelerator.KVM else "not macOS"
    )
    kept = tmp_path / "host.json"
    found = await facts.host_facts(qemu, kept=kept)
    assert found.accelerator is Accelerator.KVM
    slower = facts.without_accelerator(found, qemu, "the image does not boot", kept=kept)
    assert slower.why == "kvm: the image does not boot"
    assert await facts.host_facts(qemu, kept=kept) == slower
    assert slower.accelerator is Accelerator.TCG


@pytest.mark.asyncio
@pytest.mark.needs("qemu")
async def test_emulation_runs_here() -> None:
    from capsem.host.programs import find_qemu

    assert await facts.trial(find_qemu(), Accelerator.TCG, seconds=30.0) == ""
