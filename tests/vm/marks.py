"""What every test of machines is marked with.

pytestmark = machines(900)
"""

from __future__ import annotations

import pytest

SANDBOX = ("userns", "landlock", "seccomp-notify")
"""What a test needs besides that looks at what is under a policy."""


def machines(seconds: int, *needs: str) -> list[pytest.MarkDecorator]:
    """The marks.

    Args:
        seconds: after which it hangs.
        needs: of this host, besides images and QEMU.
    """
    return [
        pytest.mark.needs("images", "qemu", *needs),
        pytest.mark.timeout(seconds),
        pytest.mark.slow,
        pytest.mark.xdist_group("machines"),
    ]
