"""Words that do not belong in a tracked file: unfinished work, one machine's paths, registry addresses."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from tests.architecture.sources import ROOT, relative, text_of, tracked

HERE = Path(__file__).resolve()
UNFINISHED = re.compile(
    r"\b(TODO|FIXME|XXX|HACK)\b|\bpytest\.(mark\.)?xfail|\b(todo|unimplemented)!\(|NotImplementedError"
)
REGISTRIES = re.compile(
    r"pypi\.org|pythonhosted\.org|(static|index)\.crates\.io|static\.rust-lang\.org|sh\.rustup\.rs"
    r"|registry\.npmjs|deb\.debian\.org|proxy\.golang|archive\.ubuntu"
)
# /home/u, /home/user and /home/you are the examples' people; any other home is one machine's.
MACHINE_PATHS = re.compile(
    r"/home/(?!(u|user|you|me|tester|someone|node|alice|bob|somebody|linuxbrew)\b)[a-z][a-z0-9_-]*/"
    r"|/root/(wt|src|work|go|snap|\.pyenv|\.local|brief|land)\b"
    r"|/Users/(?!(u|user|you|me|alice|bob)\b)[a-z]\w*/|/work/(main|shared|\.library)|/opt/wheels"
)


# What the product itself says about registries: the policies that let a command reach them, and what watches for
# packages being published. Nothing here is where this project's own packages come from.
ABOUT_REGISTRIES = (
    "capsule/src/capsule/policy/presets/",
    "capsule/native/src/plan/presets/",
    "capsule/src/capsule/rules/packs/",
    "capsule/src/capsule/sandbox/risks.py",
)


def _hits(pattern: re.Pattern[str], besides: tuple[str, ...] = ()) -> list[str]:
    found = []
    for path in tracked():
        if path == HERE or relative(path).startswith(besides):
            continue
        for number, line in enumerate((text_of(path) or "").splitlines(), 1):
            if pattern.search(line):
                found.append(f"{relative(path)}:{number}: {line.strip()[:120]}")
    return found


def test_nothing_unfinished() -> None:
    assert not _hits(UNFINISHED)


def test_no_registry_addresses() -> None:
    """Whoever builds this uses the registries their machine is set up for."""
    assert not _hits(REGISTRIES, ABOUT_REGISTRIES)


def test_no_machine_paths() -> None:
    assert not _hits(MACHINE_PATHS)


@pytest.mark.parametrize(
    ("pattern", "line"),
    [
        (UNFINISHED, "# TODO: later"),
        (UNFINISHED, "    todo!()"),
        (REGISTRIES, "--index-url https://pypi.org/simple"),
        (MACHINE_PATHS, "cd /home/jane/src"),
        (MACHINE_PATHS, "cp x /root/work"),
    ],
)
def test_the_patterns_find_what_they_forbid(pattern: re.Pattern[str], line: str) -> None:
    assert pattern.search(line)


@pytest.mark.parametrize("name", ["requirements.lock", "capsule/requirements.lock", "scripts/tools.lock"])
def test_locks_are_pinned_by_hash_and_name_no_address(name: str) -> None:
    text = (ROOT / name).read_text(encoding="utf-8")
    assert not re.search(r"https?:", text)
    requirements = [block for block in re.split(r"\n(?=[a-z0-9])", text) if re.match(r"[a-z0-9]", block)]
    unpinned = [
        block.splitlines()[0] for block in requirements if "==" not in block or "--hash=sha256:" not in block
    ]
    assert requirements
    assert not unpinned


def test_uv_lock_is_not_tracked() -> None:
    assert not [path for path in tracked() if path.name in {"uv.lock", "package-lock.json"}]
    assert (ROOT / "capsule/native/Cargo.lock").is_file()
