"""Whether a request is of the account that the policy's author chose (`credential` of a host entry).

Pure. A provider serves every account at one name, so a host entry alone would let a command upload to somebody else's.
The named secret's placeholder has to be where it belongs, alone or behind a scheme (`Bearer …`), and no other header
or parameter that carries credentials, or names whom to bill, may be there. Refuses by returning why. What it cannot
know: credentials under names of their own, which `paths`, `methods` or a rule has to keep out.

    foreign(secrets, "provider", outgoing)      # None, or "header x-api-key does not carry secret provider alone"
"""

from __future__ import annotations

import base64
import binascii
import re

from capsule.egress.placeholders import percent_decoded
from capsule.egress.secrets import BASIC, Outgoing, Secrets, SecretSpec
from capsule.policy.fields import gateway_name

HEADER = re.compile(
    r"authorization$|cookie2?$|^key$|(api|access|auth|account|functions?|private|secret|subscription)[-_]?key$"
    r"|^openai-(organization|project)$|^x-goog-user-project$|^anthropic-(organization|workspace)(-id)?$"
    r"|(?<!csrf-)(?<!xsrf-)token$|secret$|password$|credentials?$|signature$"
)
PARAMETER = re.compile(
    r"((x-amz-|x-goog-)?(api|access|app|auth|id|oauth|private|security|session|subscription)?[-_]?(key|token)([-_]?id)?)"
    r"|((x-amz-|x-goog-)?(client[-_]?)?(secret|password|signature|credential))|sig|auth|jwt|awsaccesskeyid|[$]?userproject"
)


def foreign(secrets: Secrets, name: str, untrusted: Outgoing) -> str | None:
    """Why the request is not of the account that secret `name` is for; None when it is.

    A secret that goes into bodies is not missed in the head; `fill_body` says whether it was used.
    """
    spec, placeholder = secrets.spec(name), secrets.placeholder(name)
    if spec is None or placeholder is None:
        return f"secret {name} has no value"
    own = 0
    for header, value in untrusted.headers:
        lower = header.decode("latin-1").lower()
        if not HEADER.search(gateway_name(lower)) and not _is_field(spec, "header", lower):
            continue
        if not _carries(spec, lower, value.strip(), placeholder):
            return f"header {lower} does not carry secret {name} alone"
        own += 1
    # Some servers separate parameters by `;` too.
    for part in untrusted.target.partition(b"?")[2].replace(b";", b"&").split(b"&"):
        untrusted_field, _, value = part.partition(b"=")
        parameter = percent_decoded(untrusted_field.replace(b"+", b" ")).decode("utf-8", "replace")
        ours = spec.place == "query" and parameter == spec.field
        if not ours and not PARAMETER.fullmatch(parameter.lower()):
            continue
        if not ours or value != placeholder:
            return f"parameter {parameter[:40]!r} does not carry secret {name} alone"
        own += 1
    return None if own or spec.place == "body" else f"it does not carry secret {name}"


def _is_field(spec: SecretSpec, place: str, name: str) -> bool:
    return spec.place == place and name == (spec.field or "").lower()


def _carries(spec: SecretSpec, header: str, value: bytes, placeholder: bytes) -> bool:
    if _is_field(spec, "header", header):
        scheme, _, rest = value.rpartition(b" ")
        return rest == placeholder and (not scheme or scheme.replace(b"-", b"").isalnum())
    basic = BASIC.fullmatch(value)
    if spec.place != "basic" or header != "authorization" or basic is None:
        return False
    try:
        user, _, password = base64.b64decode(basic[2], validate=True).partition(b":")
    except binascii.Error:
        return False
    if spec.user is not None:
        return (user, password) == (spec.user.encode(), placeholder)
    return placeholder in (user, password)
