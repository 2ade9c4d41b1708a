"""A session with one secret of each kind, for the tests of what goes where."""

from __future__ import annotations

from capsule.egress.secrets import Outgoing, Secrets, SecretSpec

SPECS = (
    SecretSpec("github", ("api.forge.example", "*.git.example"), "header", field="Authorization"),
    SecretSpec("pypi", ("upload.example",), "basic", user="__token__"),
    SecretSpec("any", ("any.example",), "basic"),
    SecretSpec("maps", ("maps.example", "10.1.2.3"), "query", field="api key"),
    SecretSpec("oauth", ("login.example",), "body"),
)
VALUES = {
    "github": "ghp_VALUE/with+signs",
    "pypi": "pypi-VALUE:colon",
    "any": "any-VALUE",
    "maps": "maps VALUE&=é",
    "oauth": 'oauth-VALUE"\\&=é',
}
PLACEHOLDERS = {name: f"capsule-secret-{name}-" + f"{number:032x}" for number, name in enumerate(VALUES, 7)}
HOLD = {name: text.encode() for name, text in PLACEHOLDERS.items()}


def session(expires: str | None = None) -> Secrets:
    secrets = Secrets(SPECS)
    for name, value in VALUES.items():
        secrets.put(name, value=value, placeholder=PLACEHOLDERS[name], expires=expires)
    return secrets


def outgoing(
    host: str,
    *headers: tuple[bytes, bytes],
    target: bytes = b"/",
    encrypted: bool = True,
    method: str = "GET",
) -> Outgoing:
    return Outgoing(method, host, encrypted, target, headers)
