"""`python -m capsule.egress`: the daemon, with its listening Unix socket as descriptor 0.

Refuses, with one line and exit 3, an interpreter before Python 3.12 and an installation without `capsule[egress]`.
Descriptor 0 must be a listening Unix socket; `CAPSULE_EGRESS_IDLE` is seconds without a session until it leaves.
"""

from __future__ import annotations

import sys

LACKING = 3
"""The exit code when this installation cannot be an egress."""


def main() -> int:
    """Runs until it is idle; the exit code."""
    if sys.version_info < (3, 12):
        print(f"capsule-egress needs Python 3.12 or later; this is {sys.version.split()[0]}", file=sys.stderr)
        return LACKING
    try:
        from capsule.egress import server
    except ModuleNotFoundError as error:
        print(f"capsule-egress lacks {error.name}; install capsule[egress]", file=sys.stderr)
        return LACKING
    return server.main()


if __name__ == "__main__":
    sys.exit(main())
