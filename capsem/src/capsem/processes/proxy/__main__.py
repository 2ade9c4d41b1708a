"""`python -m capsem.processes.proxy`: the proxy of one machine, its monitor at the socket that is descriptor 0.

Refuses an installation that lacks what `capsule[egress]` brings, with one line and exit code 3.
"""

from __future__ import annotations

import asyncio
import socket
import sys

LACKING = 3


def main() -> int:
    """Serves until the monitor hangs up."""
    try:
        from capsem.processes.proxy.serving import serve
    except ModuleNotFoundError as error:
        sys.stderr.write(f"capsem-proxy lacks {error.name}; install capsule[egress]\n")
        return LACKING
    asyncio.run(serve(socket.socket(fileno=0)))
    return 0


if __name__ == "__main__":
    sys.exit(main())
