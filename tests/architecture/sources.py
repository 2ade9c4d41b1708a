"""The files the rules are checked on: what git tracks or would add, and what each Python module imports.

Example: ``for module in modules(): print(module.name, module.imports)``
"""

from __future__ import annotations

import ast
import functools
import subprocess
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
PACKAGE = ROOT / "capsule/src/capsule"
CAPSEM = ROOT / "capsem/src/capsem"

# P of ARCHITECTURE.md's code map: no socket, file, clock, thread, process, randomness or log.
PURE_PACKAGES = (
    "capsule.errors", "capsule.policy", "capsule.sandbox", "capsule.audit", "capsule.profile", "capsule.overlay",
    "capsule.rules", "capsule.unprintable",
    "capsule.egress.frames", "capsule.egress.hello", "capsule.egress.judgement", "capsule.egress.verdict",
    "capsule.egress.model",
    "capsule.egress.dns", "capsule.egress.dns_record", "capsule.egress.pool",
    "capsule.egress.certificates", "capsule.egress.trust",
    "capsule.egress.placeholders", "capsule.egress.secrets", "capsule.egress.credential", "capsule.egress.methods",
    "capsule.egress.spelling", "capsule.egress.echoes", "capsule.egress.prospect", "capsule.egress.returning",
    "capsule.egress.envelope", "capsule.egress.upgrade",
    "capsule.egress.budget", "capsule.egress.asks", "capsule.egress.mcp_message", "capsule.egress.websocket",
    "capsule.egress.strictness",
    "capsule.sessions",
    "capsem.errors", "capsem.process", "capsem.vm", "capsem.wire", "capsem.workspace",
)  # fmt: skip
IMPURE_MODULES = (
    "capsule.sandbox.launcher",
    "capsule.audit.store",
    "capsule.profile.trace",
    "capsule.overlay.layer",
    "capsule.overlay.apply",
    "capsule.overlay.journal",
    "capsule.sessions.collector",
    "capsule.sessions.compare",
    "capsule.sessions.database",
    "capsule.sessions.holding",
    "capsule.sessions.ingest",
    "capsule.sessions.query",
)


def is_pure(name: str) -> bool:
    """Whether the code map says P of a module."""
    inside = any(name == package or name.startswith(package + ".") for package in PURE_PACKAGES)
    return inside and name not in IMPURE_MODULES


@functools.cache
def tracked() -> tuple[Path, ...]:
    """Every file git tracks or would add, that exists."""
    listing = subprocess.run(
        ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
        cwd=ROOT, capture_output=True, check=True, text=True,
    ).stdout  # fmt: skip
    return tuple(sorted(path for name in listing.split("\0") if name and (path := ROOT / name).is_file()))


def relative(path: Path) -> str:
    """The path as written in the repository."""
    return path.relative_to(ROOT).as_posix()


def text_of(path: Path) -> str | None:
    """The file's text, or None for a binary one."""
    try:
        return path.read_text(encoding="utf-8")
    except UnicodeDecodeError:
        return None


@dataclass(frozen=True)
class Module:
    """One module of a package: its dotted name, its tree, and what it imports."""

    name: str
    path: Path
    tree: ast.Module
    imports: frozenset[str]

    @property
    def package(self) -> Path:
        """The folder of the distribution it belongs to."""
        return CAPSEM if self.path.is_relative_to(CAPSEM) else PACKAGE

    @property
    def tests(self) -> Path:
        """Where its mirrored test file belongs: below `tests/` for capsule, below `tests/capsem/` for capsem."""
        return ROOT / "tests" / ("capsem" if self.package == CAPSEM else "")

    @property
    def pure(self) -> bool:
        """Whether the code map says P."""
        return is_pure(self.name)


def imports_of(tree: ast.Module, package: str) -> frozenset[str]:
    """Every name that a module of a package imports, and every module that it takes one from."""
    found: set[str] = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            parents = package.split(".")[: len(package.split(".")) - node.level + 1] if node.level else []
            source = ".".join([*parents, *([node.module] if node.module else [])])
            found |= {source} | {f"{source}.{alias.name}" for alias in node.names}
    return frozenset(found)


@functools.cache
def modules() -> tuple[Module, ...]:
    """Every module of both packages."""
    found = []
    for path in tracked():
        package = PACKAGE if path.is_relative_to(PACKAGE) else CAPSEM
        if path.suffix != ".py" or not path.is_relative_to(package):
            continue
        parts = [package.name, *path.relative_to(package).with_suffix("").parts]
        is_package = parts[-1] == "__init__"
        name = ".".join(parts[:-1] if is_package else parts)
        tree = ast.parse(path.read_text(encoding="utf-8"), str(path))
        found.append(
            Module(name, path, tree, imports_of(tree, name if is_package else name.rpartition(".")[0]))
        )
    return tuple(found)
