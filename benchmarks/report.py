"""Turn ``results/*.json`` into ``docs/benchmarks.md`` and its charts. Refuses numbers that no run wrote.

Run: ``python -m benchmarks.report`` (``make bench`` does it last).
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any
from xml.sax.saxutils import escape

from benchmarks import published, targets
from benchmarks.measure import RESULTS

DOCS = Path(__file__).parent.parent / "docs"


def chart(title: str, rows: list[dict[str, Any]], path: Path) -> None:
    """A horizontal bar chart of medians on a logarithmic axis, as SVG that reads in light and dark."""
    ordered = sorted(rows, key=lambda row: float(row["median"]))
    floor = min(float(row["median"]) for row in ordered) / 2
    decades = math.log10(float(ordered[-1]["median"]) / floor)
    left, width, step = 250, 380, 30
    height = 70 + step * len(ordered)
    out = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 760 {height}" font-family="sans-serif" font-size="13">',
        f'<rect width="760" height="{height}" fill="#ffffff"/>',
        f'<text x="14" y="26" font-size="15" font-weight="bold" fill="#0f172a">{escape(title)}</text>',
        f'<text x="14" y="{height - 14}" fill="#475569">median, milliseconds, logarithmic</text>',
    ]
    for index, row in enumerate(ordered):
        median = float(row["median"])
        length = width * math.log10(median / floor) / decades
        y = 44 + index * step
        colour = "#2563eb" if "capsule" in str(row["name"]) else "#94a3b8"
        name = escape(str(row["name"]))
        out += [
            f'<text x="{left - 10}" y="{y + 15}" text-anchor="end" fill="#0f172a">{name}</text>',
            f'<rect x="{left}" y="{y}" width="{length:.1f}" height="20" rx="3" fill="{colour}"/>',
            f'<text x="{left + length + 8:.1f}" y="{y + 15}" fill="#0f172a">{median:.2f}</text>',
        ]
    path.write_text("\n".join([*out, "</svg>"]) + "\n")


def margins(rows: list[targets.Judged], path: Path) -> None:
    """How much better than its target each is, on a logarithmic axis; what is left of the line is not met."""
    told = [row for row in rows if row.margin is not None]
    left, width, step, most = 470, 250, 24, 100.0
    height = 70 + step * len(told)
    middle = left + width / 2
    out = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 760 {height}" font-family="sans-serif" font-size="12">',
        f'<rect width="760" height="{height}" fill="#ffffff"/>',
        '<text x="14" y="26" font-size="15" font-weight="bold" fill="#0f172a">Targets and what was measured</text>',
        f'<text x="14" y="{height - 14}" fill="#475569">times better than the target, logarithmic; the line is the '
        "target</text>",
    ]
    for index, row in enumerate(told):
        assert row.margin is not None
        reach = math.log10(min(max(row.margin, 1 / most), most)) / math.log10(most) * width / 2
        y = 40 + index * step
        colour = "#2563eb" if row.met else "#dc2626"
        start = middle if reach >= 0 else middle + reach
        name = escape(row.target.what.replace("`", ""))
        out += [
            f'<text x="{left - 10}" y="{y + 13}" text-anchor="end" fill="#0f172a">{name}</text>',
            f'<rect x="{start:.1f}" y="{y}" width="{max(abs(reach), 1):.1f}" height="16" rx="2" fill="{colour}"/>',
            f'<text x="{left + width + 8}" y="{y + 13}" fill="#0f172a">{targets.written(row.margin, "")}</text>',
        ]
    out.append(f'<line x1="{middle}" y1="34" x2="{middle}" y2="{height - 30}" stroke="#0f172a"/>')
    path.write_text("\n".join([*out, "</svg>"]) + "\n")


def section(title: str, rows: list[dict[str, Any]]) -> list[str]:
    """One markdown table."""
    lines = [f"### {title}", "", "| | min ms | median ms | p95 ms | ratio | n |", "|---|--:|--:|--:|--:|--:|"]
    lines += [
        f"| {r['name']} | {r['minimum']:.3f} | {r['median']:.3f} | {r['p95']:.3f} | {r['ratio']:.2f} | {r['rounds']} |"
        for r in rows
    ]
    return [*lines, ""]


def facts(document: Mapping[str, Any]) -> list[str]:
    """The remaining facts of a run as a list."""
    lines = []
    for key, value in document["facts"].items():
        if isinstance(value, dict):
            if not value:
                continue
            lines.append(f"- {key.replace('_', ' ')}:")
            lines += [
                f"  - {name}: {json.dumps(item) if isinstance(item, dict) else item}"
                for name, item in value.items()
            ]
        else:
            lines.append(f"- {key.replace('_', ' ')}: {value}")
    return [*lines, ""] if lines else []


def host(document: Mapping[str, Any]) -> str:
    """The machine of a run, without its kernel."""
    machine = document["machine"]
    return f"{machine['processor']}, {machine['cores']} cores, {machine['memory_gib']} GiB"


def main() -> int:
    """Write the page and the charts."""
    page = [
        "# Benchmarks",
        "",
        "Measured by `make bench`; peers in the same run, rounds interleaved, medians. Absolute times belong to the",
        "machine that each section names; ratios travel better. Ratios are to the row with ratio 1.00. A load above",
        "the benchmark's own (about 1) means that the machine was doing something else too, and that the numbers are",
        "worse for it.",
        "",
    ]
    documents = [json.loads(path.read_text()) for path in sorted(RESULTS.glob("*.json"))]
    on: dict[str, list[str]] = {}
    for document in documents:
        on.setdefault(host(document), []).append(document["question"].replace("_", " "))
    page += [f"- {machine}: {', '.join(questions)}" for machine, questions in on.items()]
    page += [""]
    rows = targets.judge({document["question"]: document for document in documents})
    margins(rows, DOCS / "benchmark-targets.svg")
    page += [
        "## Targets and what was measured",
        "",
        *targets.table(rows),
        "The floor is what the kernel alone takes, measured in the same rounds: for a launch and for steady state the",
        "same walls with every question of the filter answered unseen (`capsule/native/examples/walls.rs`), for calls",
        "back to back one `fork` of the same worker and its end, for calls now and then a byte through two sleeping",
        "processes and back, for machines a QEMU from the same template with no service, monitor, sandbox or record",
        "around it (`benchmarks/bare.py`). It runs the same kernel, image and agent under the same emulator: whoever",
        "makes a machine here starts an emulator, loads a state, gives an identity and has the guest run `true`. From",
        "a pool only the identity and the command are left, in a guest that has run both as often before. `capsem run`",
        "adds an interpreter that does nothing, and the emulator's end. At rest it is what the guest's own kernel",
        "keeps awake.",
        "",
        "![targets and what was measured](benchmark-targets.svg)",
        "",
        "Peers, in the same runs: bubblewrap, firejail, runc, codex's sandbox and sandbox-runtime (launch), strace",
        "(profile), mitmproxy without add-ons, Squid with ssl-bump and sandbox-runtime's proxy (egress), a plain",
        "QEMU that boots the same kernel and image (machines). Details, and the commands to repeat them, follow.",
        "",
        *published.table(),
    ]
    for document in documents:
        question = document["question"]
        machine = document["machine"]
        page += [
            f"## {question}",
            "",
            f"Repeat with `{document['command']}`. On {host(document)}, Linux {machine['kernel']}, Python "
            f"{machine['python']}; its load meanwhile: {machine['load']}.",
            "",
        ]
        for title, rows in document["sections"].items():
            page += section(title, rows)
            if title == question:
                name = f"benchmark-{question}.svg"
                chart(question, rows, DOCS / name)
                page += [f"![{question}]({name})", ""]
        page += facts(document)
    (DOCS / "benchmarks.md").write_text("\n".join(page).rstrip() + "\n")
    print(f"written: {DOCS / 'benchmarks.md'}")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
