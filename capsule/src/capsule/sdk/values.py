"""What may cross between a program and its sandbox: JSON values, `bytes` and tuples, nothing else.

Both directions use the same text form: JSON, where `bytes` are `{"$bytes": "<base64>"}`, tuples are
`{"$tuple": [...]}`, and a dict that itself has a key beginning with `$` is wrapped in `{"$dict": {...}}`.
What comes out equals what went in, exact type by exact type.

Refuses: every other type (subclasses included: an `IntEnum` would arrive as something else), keys that are
not `str`, NaN and infinities, integers of more digits than the interpreter writes (4300), nesting deeper than
100. Nothing is ever unpickled, evaluated or looked up by name, so bytes from a hostile sandbox can at worst be a
wrong value of these types, or an error.

    encode({"data": b"ab"})        # b'{"data":{"$bytes":"YWI="}}'
    decode(encode((1, [2.5])))     # (1, [2.5])
    encode([{1, 2}])               # UnfitValueError: value[0]: set cannot cross …
"""

from __future__ import annotations

import base64
import binascii
import json
import json.encoder
import math
import sys
from collections.abc import Sequence
from typing import Any, Final, NoReturn

MAX_DEPTH: Final = 100
"""How deep lists, tuples and dicts may nest."""

_HINTS: Final = {
    "set": "pass sorted(value) or list(value)",
    "frozenset": "pass sorted(value) or list(value)",
    "bytearray": "pass bytes(value)",
    "memoryview": "pass bytes(value)",
    "datetime": "pass value.isoformat()",
    "date": "pass value.isoformat()",
    "time": "pass value.isoformat()",
    "timedelta": "pass value.total_seconds()",
    "Decimal": "pass str(value)",
    "UUID": "pass str(value)",
    "PosixPath": "pass str(value)",
    "PurePosixPath": "pass str(value)",
    "generator": "pass list(value)",
    "coroutine": "await it first",
}
_SCALARS: Final = frozenset((type(None), str, int, bool))
_CROSSING: Final = frozenset((bool, int, float, str, bytes, list, tuple, dict))
_encoder = json.JSONEncoder(check_circular=False, allow_nan=False, ensure_ascii=True, separators=(",", ":"))
_make: Any = getattr(json.encoder, "c_make_encoder", None)
_pieces: Any = _make and _make(
    None, _encoder.default, json.encoder.encode_basestring_ascii, None, ":", ",", False, False, False
)
"""What `_encoder` makes anew for each value, where the interpreter has it in C."""


class UnfitValueError(ValueError):
    """A value, or text that claims to be one, that may not cross. The message begins with its place."""


class _UnfitError(Exception):
    """Why, and where: the path is collected on the way out, so that a fit value pays nothing for it."""

    def __init__(self, why: str) -> None:
        super().__init__(why)
        self.path: list[str] = []


def encode(value: object, place: str = "value") -> bytes:
    """The text form of `value`.

    Args:
        value: what is to cross.
        place: what to call it in an error, for instance `result`.

    Raises:
        UnfitValueError: something inside is not of the permitted types; the message names where.
    """
    try:
        return compact(_plain(value, 0)).encode("ascii")
    except _UnfitError as fault:
        raise UnfitValueError(f"{place}{''.join(reversed(fault.path))}: {fault}") from None
    except ValueError:
        # What is left for it: a number that has no decimal form here (sys.set_int_max_str_digits).
        digits = sys.get_int_max_str_digits()
        raise UnfitValueError(
            f"{place}: an int in it has more than {digits} digits and cannot cross; pass hex(value)"
        ) from None


def exceeds(value: object, most: int) -> bool:
    """Whether the text form of `value` is certainly longer than `most` bytes; told without making it.

    False says nothing: only texts, bytes and the numbers of items are counted, to the depth that may cross.
    """
    level = [value]
    for _ in range(MAX_DEPTH):
        inner: list[object] = []
        for item in level:
            kind = type(item)
            if kind is str or kind is bytes:
                most -= len(item)  # type: ignore[arg-type]
            elif kind is list or kind is tuple or kind is dict:
                most -= len(item)  # type: ignore[arg-type]
                if most >= 0:
                    inner.extend(item.values() if isinstance(item, dict) else item)  # type: ignore[arg-type]
            if most < 0:
                return True
        if not inner:
            break
        level = inner
    return False


def decode(text: bytes, place: str = "value") -> object:
    """The value that `text` stands for.

    Args:
        text: hostile bytes; the caller has already bounded their length.
        place: what to call it in an error.

    Raises:
        UnfitValueError: not JSON, not of this form, or nested too deeply.
    """
    try:
        letters = text.decode("utf-8")
        untrusted, end = _scan(letters, 0)
        if end != len(letters):
            raise UnfitValueError(f"something follows it at {end}")
        if b'"$' in text:
            return _rich(untrusted, 0)
        if type(untrusted) not in _SCALARS:
            _bounded(untrusted, 0)
    except (ValueError, RecursionError, _UnfitError) as error:
        raise UnfitValueError(f"{place}: not the text form of a value: {error}") from None
    except StopIteration as stopped:
        raise UnfitValueError(f"{place}: not the text form of a value: no JSON at {stopped.value}") from None
    return untrusted


def _plain(value: object, depth: int) -> object:
    """`value` as JSON has it."""
    kind = type(value)
    if kind in _SCALARS:
        return value
    if kind is float:
        if not math.isfinite(value):  # type: ignore[arg-type]
            raise _UnfitError(f"{value} cannot cross; only finite numbers can")
        return value
    if depth >= MAX_DEPTH:
        raise _UnfitError(f"nested deeper than {MAX_DEPTH}")
    if isinstance(value, bytes) and kind is bytes:
        return {"$bytes": base64.b64encode(value).decode("ascii")}
    if isinstance(value, list) and kind is list:
        return _plain_items(value, depth)
    if isinstance(value, tuple) and kind is tuple:
        return {"$tuple": _plain_items(value, depth)}
    if isinstance(value, dict) and kind is dict:
        return _plain_dict(value, depth)
    return _refuse(kind)


def _plain_items(items: Sequence[object], depth: int) -> list[object]:
    plain: list[object] = []
    for index, item in enumerate(items):
        try:
            plain.append(item if type(item) in _SCALARS else _plain(item, depth + 1))
        except _UnfitError as fault:
            fault.path.append(f"[{index}]")
            raise
    return plain


def _plain_dict(value: dict[object, object], depth: int) -> object:
    """A dict, wrapped when one of its keys could be taken for a tag."""
    tagged = False
    plain: dict[str, object] = {}
    for key, item in value.items():
        if not isinstance(key, str) or type(key) is not str:
            raise _UnfitError(f"the key {key!r:.80} is {type(key).__name__}; keys must be str")
        tagged = tagged or key.startswith("$")
        try:
            plain[key] = item if type(item) in _SCALARS else _plain(item, depth + 1)
        except _UnfitError as fault:
            fault.path.append(f"[{key!r:.80}]")
            raise
    return {"$dict": plain} if tagged else plain


def _refuse(kind: type) -> NoReturn:
    hint = _HINTS.get(kind.__name__)
    if hint is None and hasattr(kind, "__dataclass_fields__"):
        hint = "pass dataclasses.asdict(value)"
    if hint is None and (plain := next((parent for parent in kind.__mro__ if parent in _CROSSING), None)):
        hint = f"pass a plain {plain.__name__}"
    advice = f"; {hint}" if hint else ""
    raise _UnfitError(
        f"{kind.__module__}.{kind.__qualname__} cannot cross "
        f"(None, bool, int, float, str, bytes, list, tuple and dict can){advice}"
    )


def _rich(untrusted: object, depth: int) -> object:
    """Undo the tags, from the outside in, so that wrapped dicts are not mistaken for tags."""
    if isinstance(untrusted, list):
        if depth >= MAX_DEPTH:
            raise _UnfitError(f"nested deeper than {MAX_DEPTH}")
        return [_rich(item, depth + 1) for item in untrusted]
    if not isinstance(untrusted, dict):
        return untrusted
    if depth >= MAX_DEPTH:
        raise _UnfitError(f"nested deeper than {MAX_DEPTH}")
    tag = next((key for key in untrusted if key.startswith("$")), None)
    if tag is None:
        return {key: _rich(item, depth + 1) for key, item in untrusted.items()}
    inner = untrusted[tag]
    if len(untrusted) == 1:
        if tag == "$bytes" and isinstance(inner, str):
            try:
                return base64.b64decode(inner.encode("ascii"), validate=True)
            except (binascii.Error, UnicodeEncodeError):
                raise _UnfitError("$bytes holds something other than base64") from None
        if tag == "$tuple" and isinstance(inner, list):
            return tuple(_rich(item, depth + 1) for item in inner)
        if tag == "$dict" and isinstance(inner, dict):
            return {key: _rich(item, depth + 1) for key, item in inner.items()}
    raise _UnfitError(f"unknown tag {tag!r:.80}")


def _bounded(untrusted: object, depth: int) -> None:
    """The same limit on depth for text without tags."""
    if isinstance(untrusted, (list, dict)):
        if depth >= MAX_DEPTH:
            raise _UnfitError(f"nested deeper than {MAX_DEPTH}")
        for item in untrusted.values() if isinstance(untrusted, dict) else untrusted:
            _bounded(item, depth + 1)


def _finite(text: str) -> float:
    number = float(text)
    if math.isinf(number):
        raise UnfitValueError(f"{text[:40]} is beyond the range of a float")
    return number


def _no_constant(text: str) -> NoReturn:
    raise UnfitValueError(f"{text} is not a number")


def _object(pairs: list[tuple[str, object]]) -> dict[str, object]:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise UnfitValueError("a key appears twice")
    return found


_decoder: Any = json.JSONDecoder(parse_float=_finite, parse_constant=_no_constant, object_pairs_hook=_object)
_scan: Final = _decoder.scan_once
"""Without the search for white space around it: there is none in what `encode` makes."""


def compact(plain: object) -> str:
    """Something that JSON has, as JSON without spaces."""
    return _encoder.encode(plain) if _pieces is None else "".join(_pieces(plain, 0))
