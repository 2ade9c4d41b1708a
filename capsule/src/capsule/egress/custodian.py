"""Fetches one secret from this user's keyring and writes it to a pipe, for the supervisor.

`python -m capsule.egress.custodian SERVICE USER`. The value goes to standard output without a line end, and nowhere
else. Refuses a standard output that is not a pipe, because a terminal or a file would keep it; a keyring that is not
there, locked or without the entry is said on standard error.

    value = subprocess.run([python, "-m", "capsule.egress.custodian", "maps", "me"], stdout=PIPE).stdout
"""

from __future__ import annotations

import os
import stat
import sys
from collections.abc import Sequence

from capsule.errors import CapsuleError, Fault, UsageError


class KeyringError(CapsuleError):
    """The keyring does not give this secret."""

    fault = Fault.HOST


def fetch(service: str, user: str) -> str:
    """The password that the keyring holds for a user of a service.

    Raises:
        KeyringError: no keyring, a locked one, or no such entry.
    """
    import keyring
    import keyring.errors

    named = f"secret of service {service!r}, user {user!r}"
    try:
        value = keyring.get_password(service, user)
    except keyring.errors.NoKeyringError:
        raise KeyringError(
            f"{named}: this host has no keyring",
            next_step="start one (gnome-keyring, KWallet, KeePassXC), or take the secret `from` a file or a command",
        ) from None
    except keyring.errors.KeyringError as error:
        raise KeyringError(
            f"{named}: the keyring refuses ({type(error).__name__})", next_step="unlock it and run again"
        ) from None
    if value is None:
        raise KeyringError(
            f"{named}: the keyring has no such entry", next_step=f"keyring set {service} {user}"
        )
    return value


def main(arguments: Sequence[str] | None = None) -> int:
    """0 and the value, or 125 and why not."""
    words = sys.argv[1:] if arguments is None else arguments
    try:
        if len(words) != 2:
            raise UsageError(
                "not a service and a user", next_step="python -m capsule.egress.custodian SERVICE USER"
            )
        output = sys.stdout.fileno()
        if not stat.S_ISFIFO(os.fstat(output).st_mode):
            raise UsageError("standard output would keep a secret", next_step="read it through a pipe")
        left = fetch(*words).encode()
        while left:
            left = left[os.write(output, left) :]
    except CapsuleError as error:
        sys.stderr.write(f"capsule: {error}\n")
        return 125
    except BrokenPipeError:
        sys.stderr.write("capsule: whoever asked for a secret is gone; nothing was handed over\n")
        return 125
    return 0


if __name__ == "__main__":
    sys.exit(main())
