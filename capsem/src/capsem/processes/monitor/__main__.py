"""`python -m capsem.processes.monitor`: the nursery that the service starts, from which monitors are forked.

python -m capsem.processes.monitor --nursery 3
"""

from __future__ import annotations

import argparse
import os
import socket
import sys

from capsem.host.restraint import restrain
from capsem.processes.monitor import PROCESS
from capsem.processes.monitor.nursery import serve


def main() -> int:
    """Serves until the service hangs up; in a child, until its machine has ended."""
    parser = argparse.ArgumentParser(prog="capsem-process")
    parser.add_argument("--nursery", type=int, required=True, help="descriptor of the socket to the service")
    os.umask(0o077)
    # What is forked from it has no more.
    restrain(PROCESS.confinement)
    return serve(socket.socket(fileno=parser.parse_args().nursery))


if __name__ == "__main__":
    sys.exit(main())
