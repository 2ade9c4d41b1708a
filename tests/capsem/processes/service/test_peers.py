from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from capsem.host import places
from capsem.host.service import call

pytestmark = pytest.mark.asyncio


@pytest.mark.needs("root")
async def test_a_stranger_is_hung_up_on(capsem_home: Path) -> None:
    """Even one who gets through the directory: the kernel says who it is."""
    assert await call("GET", "/machines") == []
    capsem_home.chmod(0o755)
    places.run().chmod(0o755)
    places.service_socket().chmod(0o666)
    script = (
        "import os, socket, sys\nos.setgid(65534); os.setuid(65534)\ns = socket.socket(socket.AF_UNIX)\n"
        "s.connect(sys.argv[1])\ns.settimeout(5)\n"
        "try:\n    s.sendall(b'GET /machines HTTP/1.1\\r\\nHost: x\\r\\n\\r\\n'); print(s.recv(100))\n"
        "except OSError as error: print('refused', error)"
    )
    done = subprocess.run(
        [sys.executable, "-I", "-c", script, str(places.service_socket())],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.stdout.strip() == "b''" or done.stdout.startswith("refused"), done
    capsem_home.chmod(0o700)
