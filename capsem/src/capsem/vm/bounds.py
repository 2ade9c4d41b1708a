"""The least and the most of what a machine may be made with; MiB, where it is a size. Loads nothing."""

from __future__ import annotations

LEAST_MEMORY, MOST_MEMORY = 96, 65536
LEAST_DISK, MOST_DISK = 64, 1048576
DEFAULT_DISK = 4096
"""What is not written takes no place on the host."""
MOST_CPUS = 8
