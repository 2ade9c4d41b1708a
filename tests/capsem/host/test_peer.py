from __future__ import annotations

import os
import socket

from capsem.host.peer import is_ours, peer_process, peer_user


def test_the_other_end_is_known_by_the_kernel() -> None:
    ours, theirs = socket.socketpair()
    assert peer_user(ours) == os.geteuid()
    assert peer_process(ours) == os.getpid()
    assert is_ours(theirs)
    ours.close()
    theirs.close()
