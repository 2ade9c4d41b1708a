"""Builds CHANGELOG.md from the fragments in changes/ and the released sections already in it.

A release (`--release 0.2.0 --date 2026-12-01`) turns *Unreleased* into a numbered section and removes
the fragments.
Refuses a fragment whose name is not `<slug>.<added|changed|fixed>.md`.

Example: ``python scripts/changelog.py``
"""

from __future__ import annotations

import argparse
import re
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
KINDS = {"added": "Added", "changed": "Changed", "fixed": "Fixed"}
HEAD = """# Changelog

What users can see, newest first. Built by `make docs` from the fragments in `changes/`.
"""
UNRELEASED = "## Unreleased"


def collect(fragments: list[Path]) -> str:
    """The sections of one release.

    Raises:
        ValueError: a fragment whose name does not say what kind it is.
    """
    rows: dict[str, list[str]] = {kind: [] for kind in KINDS}
    for path in sorted(fragments):
        found = re.fullmatch(r"[a-z0-9-]+\.(added|changed|fixed)\.md", path.name)
        if not found:
            raise ValueError(f"{path}: call it <slug>.<added|changed|fixed>.md")
        rows[found[1]].append("- " + " ".join(path.read_text(encoding="utf-8").split()))
    return "\n".join(
        f"### {KINDS[kind]}\n\n" + "\n".join(lines) + "\n" for kind, lines in rows.items() if lines
    )


def build(present: str, fragments: list[Path]) -> str:
    """The head, *Unreleased* from the fragments, then the released sections of the present file."""
    released = re.search(r"^## (?!Unreleased)", present, re.MULTILINE)
    tail = present[released.start() :] if released else ""
    body = collect(fragments)
    return "\n".join(part for part in (HEAD, f"{UNRELEASED}\n\n{body}" if body else "", tail) if part)


def fragments_of(root: Path) -> list[Path]:
    """The fragments of a tree."""
    return [path for path in (root / "changes").glob("*.md") if path.name != "README.md"]


def main() -> int:
    """Write CHANGELOG.md; 1 when a fragment is badly named."""
    arguments = argparse.ArgumentParser(description="Build CHANGELOG.md from changes/.")
    arguments.add_argument("--release", metavar="VERSION", help="close Unreleased under this number")
    arguments.add_argument("--date", metavar="YYYY-MM-DD", help="the day of the release")
    chosen = arguments.parse_args()
    target = ROOT / "CHANGELOG.md"
    fragments = fragments_of(ROOT)
    try:
        text = build(target.read_text(encoding="utf-8") if target.exists() else "", fragments)
    except ValueError as error:
        sys.stderr.write(f"changelog: {error}\n")
        return 1
    if chosen.release:
        if not chosen.date:
            arguments.error("--release needs --date")
        text = text.replace(UNRELEASED, f"## {chosen.release} ({chosen.date})", 1)
        for path in fragments:
            path.unlink()
    target.write_text(text, encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
