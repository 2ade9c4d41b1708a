"""The authority of one machine's network: made when the machine starts, kept in memory, gone with it.

Refuses nothing. Its certificate goes into the guest; its key goes to the machine's proxy alone and is in no file.

    signer = make_signer(("example.com",))
"""

from __future__ import annotations

import datetime

from cryptography import x509
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec

from capsem.wire.proxy import Signer
from capsule.egress.certificates import make_authority


def make_signer(hosts: tuple[str, ...] | None) -> Signer:
    """A fresh authority; `hosts` is what its intermediates may sign for, None: anything."""
    key = ec.generate_private_key(ec.SECP256R1())
    certificate = make_authority(key, datetime.datetime.now(datetime.UTC), x509.random_serial_number())
    text = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    pem = certificate.public_bytes(serialization.Encoding.PEM)
    return Signer(pem.decode(), text.decode(), hosts)
