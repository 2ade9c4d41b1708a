from __future__ import annotations

import re
import subprocess
from pathlib import Path

import pytest

from capsule.sandbox import syscalls
from capsule.sandbox.syscalls import CONDITIONS, group_of, groups, numbers

HEADER = Path("/usr/include/x86_64-linux-gnu/asm/unistd_64.h")


def test_every_system_call_is_in_exactly_one_group() -> None:
    members = [name for group in groups().values() for name in group.members]
    assert sorted(members) == sorted(numbers())


def test_every_group_has_a_reason_and_a_known_errno() -> None:
    for group in groups().values():
        assert len(group.reason) > 10
        assert group.errno in {"EPERM", "ENOSYS"}
        assert group.members == tuple(sorted(group.members))
        assert re.fullmatch(r"[a-z0-9-]+", group.name)


def test_the_table_is_sorted_and_names_no_number_twice() -> None:
    table = numbers()
    assert list(table) == sorted(table)
    for column in (0, 1):
        used = [row[column] for row in table.values() if row[column] is not None]
        assert len(used) == len(set(used)) > 300


@pytest.mark.parametrize(
    ("name", "x86_64", "aarch64"),
    [
        ("read", 0, 63), ("openat", 257, 56), ("open", 2, None), ("execve", 59, 221), ("clone3", 435, 435),
        ("mseal", 462, 462), ("newfstatat", 262, 79), ("statx", 332, 291), ("mmap", 9, 222), ("renameat", 264, 38),
    ],
)  # fmt: skip
def test_known_numbers(name: str, x86_64: int | None, aarch64: int | None) -> None:
    assert numbers()[name] == (x86_64, aarch64)


@pytest.mark.skipif(not HEADER.exists(), reason="needs kernel-headers: no asm/unistd_64.h here")
def test_the_table_agrees_with_the_kernels_header() -> None:
    found = dict(re.findall(r"#define __NR_(\w+) (\d+)", HEADER.read_text()))
    assert len(found) > 300
    assert {name: numbers()[name][0] for name in found} == {
        name: int(number) for name, number in found.items()
    }


@pytest.mark.skipif(
    not Path("/usr/include/asm-generic/unistd.h").exists(), reason="needs kernel-headers: none here"
)
def test_the_table_agrees_with_the_generic_header(tmp_path: Path) -> None:
    source = tmp_path / "a.c"
    wanted = ("RENAMEAT", "NEW_STAT", "SET_GET_RLIMIT", "SYS_CLONE3", "MEMFD_SECRET")
    source.write_text(
        "#define __BITS_PER_LONG 64\n"
        + "".join(f"#define __ARCH_WANT_{name}\n" for name in wanted)
        + "#include <asm-generic/unistd.h>\n"
    )
    done = subprocess.run(["gcc", "-E", "-dM", str(source)], capture_output=True, text=True, check=False)
    if done.returncode != 0:
        pytest.skip("needs gcc: cannot preprocess here")
    found = dict(re.findall(r"#define __NR_(\w+) (\d+)$", done.stdout, re.MULTILINE))
    found.pop("syscalls", None)
    found.pop("arch_specific_syscall", None)
    assert len(found) > 250
    assert {name: numbers()[name][1] for name in found} == {
        name: int(number) for name, number in found.items()
    }


def test_what_can_undo_the_sandbox_is_never_granted() -> None:
    for name in (
        "mount",
        "unshare",
        "setns",
        "io_uring_setup",
        "open_by_handle_at",
        "clone3",
        "bpf",
        "keyctl",
        "chroot",
    ):
        group = group_of(name)
        assert group is not None
        assert group.kind == "never"
    assert group_of("no_such_call") is None


def test_conditions_belong_to_calls_of_granted_groups() -> None:
    for name, alternatives in CONDITIONS.items():
        group = group_of(name)
        assert group is not None
        assert group.kind == "grant"
        assert alternatives
        assert all(alternatives)


@pytest.mark.parametrize(
    "row",
    ["a\tgrant\tEPERM\tr\tread", "a\tmaybe\tEPERM\tr\twrite", "a\tgrant\tEPERM\tr\tnone_such"],
)
def test_a_malformed_group_table_is_refused(row: str, monkeypatch: pytest.MonkeyPatch) -> None:
    real = syscalls._rows
    rows = ["files\tgrant\tEPERM\tr\tread", row]
    monkeypatch.setattr(syscalls, "_rows", lambda file: rows if "groups" in file else real(file))
    with pytest.raises(ValueError, match=r"the group a of .* is malformed"):
        groups.__wrapped__()


def test_a_missing_table_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pkgutil.get_data", lambda package, file: None)
    with pytest.raises(FileNotFoundError, match="is missing"):
        syscalls._rows("x.tsv")
