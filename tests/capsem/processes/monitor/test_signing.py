from __future__ import annotations

from cryptography import x509
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec

from capsem.processes.monitor.signing import make_signer
from capsule.egress.certificates import belongs


def test_each_machine_has_an_authority_of_its_own() -> None:
    one, two = make_signer(("a.example",)), make_signer(None)
    assert (one.hosts, two.hosts) == (("a.example",), None)
    key = serialization.load_pem_private_key(one.key.encode(), password=None)
    assert isinstance(key, ec.EllipticCurvePrivateKey)
    assert belongs(x509.load_pem_x509_certificate(one.certificate.encode()), key)
    assert not belongs(x509.load_pem_x509_certificate(two.certificate.encode()), key)
    assert "PRIVATE" not in one.certificate
