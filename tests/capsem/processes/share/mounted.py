"""A share as a file system of this host, in a mount namespace of its own: real programs work on it, as in a machine.

mounted(root, at, "git init && git add .")             # (exit code, what it wrote, what was refused)
"""

from __future__ import annotations

import ctypes
import json
import os
import subprocess
import sys
import threading
from pathlib import Path

from capsem.processes.share.serving import Serving
from capsem.wire import fuse
from tests.capsem.processes.share.kernel import serving

_NOSUID_NODEV = 2 | 4
_DETACH = 2


def mounted(root: Path, at: Path, script: str) -> tuple[int, str, list[str]]:
    """Run a script in the mounted directory; its exit code, its output, and the paths that were refused."""
    user = [] if os.getuid() == 0 else ["--user", "--map-root-user"]
    line = ["unshare", *user, "--mount", sys.executable, "-m", __name__, str(root), str(at), script]
    here = Path(__file__).parents[4]
    done = subprocess.run(line, capture_output=True, text=True, timeout=120, check=False, cwd=here)
    assert done.returncode == 0, done.stderr
    code, output, refused = json.loads(done.stdout)
    return code, output, refused


def _serve(one: Serving, device: int) -> None:
    while not one.over:
        try:
            asked = os.read(device, 1 << 18)
        except OSError:
            return  # it is mounted no longer
        if answer := one.answered(fuse.parse(asked)):
            os.write(device, answer)


def _main(root: str, at: str, script: str) -> None:
    one, told = serving(Path(root))
    device = os.open("/dev/fuse", os.O_RDWR | os.O_CLOEXEC)
    libc = ctypes.CDLL(None, use_errno=True)
    options = f"fd={device},rootmode=40000,user_id=0,group_id=0,default_permissions".encode()
    if libc.mount(b"capsem", at.encode(), b"fuse.capsem", _NOSUID_NODEV, options):
        raise OSError(ctypes.get_errno(), "mount")
    threading.Thread(target=_serve, args=(one, device), daemon=True).start()
    done = subprocess.run(["sh", "-c", script], cwd=at, capture_output=True, text=True, check=False)
    refused = [json.loads(line)["path"] for line in told]
    libc.umount2(at.encode(), _DETACH)
    json.dump([done.returncode, done.stdout + done.stderr, refused], sys.stdout)


if __name__ == "__main__":
    _main(*sys.argv[1:])
