r"""Whether bytes can hold one of some texts in any mix of escapes at all: two fast answers before the exact search.

Pure. Both say no only when there is none; they may say yes when there is none. Refuses nothing.

- `runs`: a text stands in bytes of its own letters and of escapes; most binary data has no such run of its length.
- `decodes`: all escapes of `%` and `\` are taken off at once, wherever they stand; not those of HTML. Where an escape
  begins before the text, its first letters are taken for a part of that, so the text is looked for without them.

    prospect = Prospect([b"my-secret-token"], alphabet)
    prospect.runs(os.urandom(1 << 16))                  # False
    prospect.decodes(b"%2F%41" * 1000)                  # False
"""

from __future__ import annotations

import binascii
import re
from collections.abc import Sequence

_STRIDES = (8, 4, 2, 1)
_SELDOM = 1e-7
"""How likely a run by chance may be at one byte."""
_EATEN = 5
"""Letters that an escape begun before a text can take from it: `u0041` after a `%` or a backslash."""
_CHAIN = re.compile(rb"5?(?:25)*")
_HEAD = 4096
"""Bytes that are looked at first: text has such a run at once."""
_LEAST = 4
"""Bytes of a text that have to be left to look for it."""
_TO_QUOTED = bytes.maketrans(b"%=\r\n", b"=\1\2\2")
_FROM_QUOTED = bytes.maketrans(b"=", b"\1")


class Prospect:
    """The texts of one search.

    Args:
        texts: what is looked for, as it is.
        alphabet: every byte that one of them or an escape of it may have.
    """

    def __init__(self, texts: Sequence[bytes], alphabet: bytes) -> None:
        least = min(map(len, texts), default=0)
        part = len(set(alphabet)) / 256
        self._stride = next((step for step in _STRIDES if part ** (least // step) <= _SELDOM), 0)
        self._run = b"\1" * (least // self._stride) if self._stride else b""
        self._classes = bytes(int(byte in alphabet) for byte in range(256))
        readable = all(re.fullmatch(rb"[ -$&-\[\]-~]+", text) for text in texts)
        needles = {self._left(text) for text in texts}
        able = readable and all(len(needle) >= _LEAST for needle in needles)
        self._needles = sorted(needles) if able else None

    @staticmethod
    def _left(text: bytes) -> bytes:
        """A text without what an escape before it may take: digits that go on with a `%25`, then one escape."""
        chained = _CHAIN.match(text)
        assert chained is not None
        return text[chained.end() + _EATEN :].translate(_FROM_QUOTED)

    def runs(self, data: bytes) -> bool:
        """Whether some run of the alphabet is as long as the shortest text."""
        if not self._stride:
            return True
        # A run of n bytes holds at least n // stride of those that are looked at, one after the other.
        return self._run in data[: _HEAD : self._stride].translate(self._classes) or self._run in data[
            :: self._stride
        ].translate(self._classes)

    def decodes(self, data: bytes) -> bool:
        """Whether a text may be there that has no references of HTML in it."""
        if self._needles is None:
            return True
        while b"%25" in data:
            data = data.replace(b"%25", b"%")
        if b"\\" in data:
            while b"\\\\" in data:
                data = data.replace(b"\\\\", b"\\")
            for escape in (b"\\u00", b"\\U00", b"\\x", b"\\X"):
                data = data.replace(escape, b"%")
        for escape in (b"%u00", b"%U00"):
            if escape[1:2] in data:
                data = data.replace(escape, b"%")
        # Quoted-printable (RFC 2045 §6.7) has the same two digits, and a reader in C; it takes two leads for one.
        while b"%%" in data:
            data = data.replace(b"%%", b"%\0%")
        plain = binascii.a2b_qp(data.translate(_TO_QUOTED)).translate(_FROM_QUOTED, b"\\")
        return any(needle in plain for needle in self._needles)
