"""What is suggested from what was seen."""

from dataclasses import replace

from capsule.profile.observation import AddressUse, FileUse, SyscallUse
from capsule.profile.suggest import Base, suggest
from tests.profile.test_observation import observation

BASE = Base(
    "strict",
    read=("/usr", "/etc"),
    write=("/dev/null",),
    execute=("/usr",),
    private=(),
    groups=("files", "io", "aio"),
)


def lines(**changes: object) -> dict[tuple[str, str], str | None]:
    suggestion = suggest(observation(**changes), base=BASE)
    return {(line.section, line.value): line.warning for line in suggestion.lines}


def test_what_the_preset_grants_is_not_said_again() -> None:
    assert (
        lines(files=(FileUse("/usr/lib/x", read=9), FileUse("/dev/null", write=1)), syscalls=(), addresses=())
        == {}
    )


def test_made_files_grant_their_directory_and_cover_reading_it() -> None:
    files = (FileUse("/w/build/o", create=1, write=1, read=1),)
    assert lines(files=files, syscalls=(), addresses=()) == {("filesystem.write", "./build"): None}


def test_the_workspace_may_be_granted_whole_and_a_home_may_not() -> None:
    found = lines(
        files=(FileUse("/w", list=1), FileUse("/w/a", read=1), FileUse("/home/u", list=1)),
        syscalls=(),
        addresses=(),
    )
    assert found == {("filesystem.read", "."): None}


def test_a_listing_that_is_too_wide_is_said_and_not_granted() -> None:
    suggestion = suggest(observation(files=(FileUse("/", list=1), FileUse("/home/u", list=2))), base=BASE)
    assert suggestion.too_wide == ("/", "/home/u")


def test_private_places_are_suggested_instead_of_the_hosts() -> None:
    suggestion = suggest(observation(files=(FileUse("/tmp/x", create=1, write=1),)), base=BASE)
    assert suggestion.private == ("/tmp",)
    assert not [line for line in suggestion.lines if line.section == "filesystem.write"]


def test_a_workspace_below_tmp_is_not_thrown_away() -> None:
    seen = observation(
        workspace="/tmp/w", files=(FileUse("/tmp/w/x", create=1, write=1),), syscalls=(), addresses=()
    )
    suggestion = suggest(seen, base=BASE)
    assert suggestion.private == ()
    assert [(line.section, line.value) for line in suggestion.lines] == [("filesystem.write", ".")]


def test_where_something_may_be_written_the_guards_of_a_workspace_stay() -> None:
    base = replace(BASE, guards=("/**/.git/hooks", "/w/.husky"))
    files = (FileUse("/w/.git/index.lock", create=1, write=1, remove=1),)
    found = suggest(observation(files=files, syscalls=(), addresses=()), base=base)
    assert [(line.value, line.warning) for line in found.lines] == [
        ("./.git", "covers .git/hooks: runs outside the sandbox later")
    ]
    assert found.protect == ("/**/.git/hooks", "./.husky")
    only_read = observation(files=(FileUse("/w/a", read=1),), syscalls=(), addresses=())
    assert suggest(only_read, base=base).protect == ()


def test_sensitive_grants_are_marked() -> None:
    found = lines(files=(FileUse("/home/u/.ssh/id_rsa", read=1),), syscalls=(), addresses=())
    assert found == {("filesystem.read", "~/.ssh/id_rsa"): "SSH keys"}


def test_addresses_become_ports_and_sockets() -> None:
    found = lines(
        files=(), syscalls=(),
        addresses=(
            AddressUse("tcp:127.0.0.1:5432", "connect", 2),
            AddressUse("unix:/run/docker.sock", "connect", 1),
            AddressUse("tcp:1.2.3.4:443", "connect", 1),
            AddressUse("tcp:127.0.0.1:80", "bind", 1),
        ),
    )  # fmt: skip
    assert set(found) == {("network.ports", "5432"), ("network.unix", "/run/docker.sock")}
    assert "container engine" in str(found["network.unix", "/run/docker.sock"])


def test_system_call_groups_are_counted_and_unused_ones_named() -> None:
    suggestion = suggest(
        observation(files=(), addresses=(), syscalls=(SyscallUse("ptrace", 3), SyscallUse("openat", 1))),
        base=BASE,
    )
    assert [(line.value, line.count) for line in suggestion.lines] == [("debug", 3)]
    assert suggestion.unused_groups == ("aio",)


def test_what_was_tried_in_vain_is_told_and_not_granted() -> None:
    addresses = (
        AddressUse("tcp:127.0.0.1:8765", "connect", 3, refused=3),
        AddressUse("tcp:127.0.0.1:8766", "unanswered", 2),
        AddressUse("tcp:[::1]:8765", "unanswered", 3),
        AddressUse("unix:@bus", "unanswered", 1),
        AddressUse("tcp:192.0.2.1:80", "connect", 1, refused=1),
        AddressUse("tcp:[2001:db8::1]:80", "connect", 1, refused=1),
        AddressUse("udp:192.0.2.53:53", "connect", 4, refused=4),
        AddressUse("tcp:198.51.100.1:80", "connect", 1),
    )
    suggestion = suggest(observation(files=(), syscalls=(), addresses=addresses), base=BASE)
    assert [(line.value, line.evidence, line.warning) for line in suggestion.lines] == [
        ("8765", "3 connections, refused while observing", "a service of the host listens there")
    ]
    assert {each.address: (each.count, each.rule) for each in suggestion.unreached} == {
        "udp:192.0.2.53:53": (4, "network: {hosts: [NAME]}"),
        "tcp:127.0.0.1:8766": (2, "network: {ports: [8766]}"),
        "unix:@bus": (1, None),
        "tcp:192.0.2.1:80": (1, "network: {hosts: [{host: 192.0.2.1, ports: [80]}]}"),
        "tcp:[2001:db8::1]:80": (1, None),
    }
    partly = (AddressUse("tcp:127.0.0.1:1", "connect", 3, refused=2),)
    (line,) = suggest(observation(files=(), syscalls=(), addresses=partly), base=BASE).lines
    assert line.evidence == "3 connections, 2 of them refused while observing"
