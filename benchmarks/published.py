"""What others publish of their machines, with where it stands. Not measured here: other hosts, most with a KVM.

lines = table()
"""

from __future__ import annotations

ROWS = (
    (
        "google/capsem",
        "create until usable",
        "1 700 ms (x86-64), 1 162 ms (arm64)",
        "its benchmark artifacts, 2026",
    ),
    ("google/capsem", "one exec", "107.8 ms (x86-64), 28.5 ms (arm64)", "the same"),
    ("google/capsem", "delete", "190.9 ms (x86-64), 81.7 ms (arm64)", "the same"),
    ("google/capsem", "fork to an image", "169.6 ms (x86-64), 55.9 ms (arm64)", "the same"),
    ("google/capsem", "save, restore", "376 ms, 308 ms (54 MB of a 2 GB machine)", "one trial, 2026-03-30"),
    (
        "google/capsem",
        "small requests, 64 connections",
        "2 553 a second (its server alone: 2 487)",
        "its artifacts, 2026",
    ),
    ("Firecracker", "boot to /sbin/init", "at most 125 ms", "SPECIFICATION.md, on metal"),
    (
        "Firecracker",
        "load a snapshot",
        "3 to 9 ms; 70 to 255 ms with cgroup v1",
        "its performance tests, on metal",
    ),
    (
        "Firecracker",
        "make a snapshot, 256 to 512 MB",
        "160 to 300 ms whole, 70 to 90 ms difference",
        "the same",
    ),
    ("Firecracker", "memory of the VMM", "at most 5 MiB", "SPECIFICATION.md"),
    (
        "E2B",
        "create until it answers, hosted",
        "491 ms; 822 ms of 100 at once",
        "computesdk/benchmarks, 2026-05-05",
    ),
    ("E2B (Novita's, of its API)", "pause, resume", "about 4 s a GiB, about 1 s", "Novita's documentation"),
)


def table() -> list[str]:
    """The rows in markdown."""
    lines = [
        "### What others publish of their machines",
        "",
        "Not measured here. Those hosts execute with KVM or Apple's framework; the machine of this page emulates.",
        "",
        "| whose | what | figure | where |",
        "|---|---|--:|---|",
    ]
    return [
        *lines,
        *(f"| {whose} | {what} | {figure} | {where} |" for whose, what, figure, where in ROWS),
        "",
    ]
