"""`python -m capsem.processes.share N`: the share of one machine; the guest's port is descriptor 0.

N is a descriptor with what the monitor says about it: JSON of `directory`, `identity`, `guards`, `limits`. Refuses what
is no request of a kernel's by ending with code 1 and one line.
"""

from __future__ import annotations

import json
import os
import socket
import sys
import time

from capsem.processes.share.serving import begun, said, serve
from capsem.wire.frame import FrameError


def main() -> int:
    """Serves until the machine has ended."""
    number = int(sys.argv[1])
    os.lseek(number, 0, os.SEEK_SET)
    with os.fdopen(number, "rb") as file:
        told = json.load(file)
    try:
        serving = begun(told, said, time.time_ns)
        said('{"serves": true}\n')
        port = socket.socket(fileno=0)
        # It was the monitor's, who waits for nothing.
        port.setblocking(True)
        serve(port, serving)
    except (FrameError, OSError) as error:
        sys.stderr.write(f"capsem-share: {error}\n")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
