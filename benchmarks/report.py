"""Turn ``results/*.json`` into ``docs/benchmarks.md`` and its charts. Refuses numbers that no run wrote.

Run: ``python -m benchmarks.report`` (``make bench`` does it last).
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from benchmarks.measure import RESULTS

DOCS = Path(__file__).parent.parent / "docs"


def chart(title: str, rows: list[dict[str, Any]], path: Path) -> None:
    """A horizontal bar chart of medians on a logarithmic axis, as SVG."""
    import matplotlib as mpl

    mpl.use("svg")
    mpl.rcParams["svg.hashsalt"] = "capsule"
    from matplotlib import pyplot as plt

    ordered = sorted(rows, key=lambda row: -float(row["median"]))
    figure, axes = plt.subplots(figsize=(8, 0.45 * len(ordered) + 1.2))
    colours = ["#2563eb" if "capsule" in str(row["name"]) else "#94a3b8" for row in ordered]
    bars = axes.barh([str(r["name"]) for r in ordered], [float(r["median"]) for r in ordered], color=colours)
    axes.bar_label(bars, labels=[f"{float(r['median']):.2f} ms" for r in ordered], padding=4, fontsize=9)
    axes.set_xscale("log")
    axes.set_xlabel("median, milliseconds (logarithmic)")
    axes.set_title(title, loc="left", fontsize=11)
    axes.spines[["top", "right"]].set_visible(False)
    axes.margins(x=0.2)
    figure.tight_layout()
    figure.savefig(path, metadata={"Date": None})
    plt.close(figure)


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


def main() -> int:
    """Write the page and the charts."""
    page = [
        "# Benchmarks",
        "",
        "Measured by `make bench`; peers in the same run, rounds interleaved, medians. Absolute times belong to the",
        "machine named below; ratios travel better. Ratios are to the row with ratio 1.00.",
        "",
    ]
    documents = [json.loads(path.read_text()) for path in sorted(RESULTS.glob("*.json"))]
    if documents:
        machine = documents[0]["machine"]
        page += [
            f"Machine: {machine['processor']}, {machine['cores']} cores, {machine['memory_gib']} GiB, "
            f"Linux {machine['kernel']}, Python {machine['python']}.",
            "",
        ]
    for document in documents:
        question = document["question"]
        page += [f"## {question}", "", f"Repeat with `{document['command']}`.", ""]
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
