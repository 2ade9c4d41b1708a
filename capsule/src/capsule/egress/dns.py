"""Questions from a sandbox and our answers to them (RFC 1035, 6891, 9460). Nothing is ever asked of anybody else.

Pure. An allowed name gets its address of the pool (A) or an empty answer (every other type); any other name does not
exist. `localhost` is the loopback (RFC 6761 §6.3). Case is echoed as asked. Refuses with FORMERR what is not exactly
one well-formed question, with REFUSED every class but IN, with NOTIMP every operation but a query, with BADVERS an
unknown EDNS version, and stays silent to answers and to what has no header. The plain question is read by hand, every
other by dnspython. No answer exceeds `LONGEST` bytes, so none is ever truncated.

    question = parse(packet, "udp")
    if isinstance(question, Question):
        reply = answer(question, pool, allowed=decide(question.name))    # reply.wire goes back
"""

from __future__ import annotations

import struct
from dataclasses import dataclass, field
from typing import Literal

import dns.exception
import dns.flags
import dns.message
import dns.rdatatype

from capsule.egress.pool import Pool, PoolFullError

TTL = 60
PAYLOAD = 1232
"""What we accept over UDP, as said in EDNS."""
LONGEST = 12 + 255 + 4 + 28 + 11
"""Header, the longest name, type and class, an AAAA record, OPT."""
Transport = Literal["udp", "tcp"]

A, AAAA, OPT, IN = 1, 28, 41, 1
FORMERR, SERVFAIL, NXDOMAIN, NOTIMP, REFUSED, BADVERS = 1, 2, 3, 4, 5, 16
RCODES = {
    0: "NOERROR", FORMERR: "FORMERR", SERVFAIL: "SERVFAIL", NXDOMAIN: "NXDOMAIN",
    NOTIMP: "NOTIMP", REFUSED: "REFUSED", BADVERS: "BADVERS",
}  # fmt: skip
_TYPES = {1: "A", 28: "AAAA", 65: "HTTPS", 64: "SVCB", 15: "MX", 16: "TXT", 12: "PTR", 33: "SRV", 5: "CNAME"}

_HEADER = struct.Struct(">6H")
_TAIL = struct.Struct(">HH")
_RECORD = struct.Struct(">HHHIH")
_OPTION = struct.Struct(">BHHBBHH")
_QR, _OPCODE, _TC, _RD, _RA, _CD = 0x8000, 0x7800, 0x0200, 0x0100, 0x0080, 0x0010
_DO = 0x8000
_PLAIN = frozenset(b"abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-_")
_LOCAL_A, _LOCAL_AAAA = b"\x7f\0\0\x01", bytes(15) + b"\x01"


@dataclass(frozen=True, slots=True)
class Question:
    """One well-formed question.

    Attributes:
        id: to be echoed.
        flags: the header's second word, as sent.
        name: lower case, without the final dot; bytes that are not letters, digits, `-`, `_` are escaped in decimal.
        wire: the name as it was sent, case and all.
        qtype: the type's number.
        edns: what the asker accepts over UDP, when it says so.
        dnssec: its DO bit.
        transport: how it came.
    """

    id: int
    flags: int
    name: str
    wire: bytes = field(repr=False)
    qtype: int
    edns: int | None
    dnssec: bool
    transport: Transport

    @property
    def type_name(self) -> str:
        """The type as text: `A`, `TXT`, `TYPE65400`."""
        return _TYPES.get(self.qtype) or dns.rdatatype.to_text(dns.rdatatype.RdataType.make(self.qtype))

    @property
    def local(self) -> bool:
        """Whether it asks for the sandbox's own loopback, about which nobody decides."""
        return is_local(self.name)


@dataclass(frozen=True, slots=True)
class Refusal:
    """What came is not a question that can be decided.

    Attributes:
        wire: the answer; None is silence.
        rcode: its code as text; empty with silence.
        reason: for the record.
    """

    wire: bytes | None
    rcode: str
    reason: str


@dataclass(frozen=True, slots=True)
class Answer:
    """What goes back.

    Attributes:
        wire: the message.
        rcode: its code as text.
        address: the address in it, dotted; None when the answer is empty.
    """

    wire: bytes
    rcode: str
    address: str | None


def is_local(name: str) -> bool:
    """Whether a name, in lower case, is the loopback whatever anybody decides (RFC 6761 §6.3)."""
    return name == "localhost" or name.endswith(".localhost")


def parse(untrusted_packet: bytes, transport: Transport) -> Question | Refusal:
    """The question in a packet (over TCP: without its two bytes of length), or how to refuse it."""
    if len(untrusted_packet) < _HEADER.size:
        return Refusal(None, "", "shorter than a DNS header")
    identity, flags, questions, answers, authorities, additional = _HEADER.unpack_from(untrusted_packet)
    if flags & _QR:
        return Refusal(None, "", "an answer nobody asked for")
    if flags & _OPCODE:
        return _refuse(identity, flags, NOTIMP, f"operation {(flags & _OPCODE) >> 11}, not a query")
    if flags & _TC or questions != 1 or answers or authorities:
        return _refuse(identity, flags, FORMERR, "not exactly one question and nothing else")
    plain = _plain(untrusted_packet, identity, flags, additional, transport)
    return plain or _general(untrusted_packet, identity, flags, transport)


def _plain(
    packet: bytes, identity: int, flags: int, additional: int, transport: Transport
) -> Question | None:
    """The question when it is of the common form; None sends it the long way."""
    at = 12
    end = len(packet)
    labels = []
    while True:
        if at >= end:
            return None
        size = packet[at]
        if size == 0:
            break
        label = packet[at + 1 : at + 1 + size]
        if size > 63 or len(label) != size or not _PLAIN.issuperset(label):
            return None
        labels.append(label)
        at += 1 + size
    at += 1
    wire = packet[12:at]
    if len(wire) > 255 or end - at not in (4, 15):
        return None
    qtype, qclass = _TAIL.unpack_from(packet, at)
    edns, dnssec = None, False
    if end - at == 15:
        root, kind, edns, extended, version, option_flags, length = _OPTION.unpack_from(packet, at + 4)
        if root or kind != OPT or extended or version or length or additional != 1:
            return None
        dnssec = bool(option_flags & _DO)
    elif additional:
        return None
    if qclass != IN or qtype == OPT:
        return None
    name = b".".join(labels).decode("ascii").lower() or "."
    return Question(identity, flags, name, wire, qtype, edns, dnssec, transport)


def _general(packet: bytes, identity: int, flags: int, transport: Transport) -> Question | Refusal:
    try:
        message = dns.message.from_wire(packet)
        asked = message.question[0]
        wire = asked.name.to_wire() or b"\0"
        name = asked.name.canonicalize().to_text(omit_final_dot=True)
    except (dns.exception.DNSException, ValueError, IndexError) as error:
        return _refuse(identity, flags, FORMERR, f"malformed: {type(error).__name__}")
    edns = message.payload if message.edns >= 0 else None
    dnssec = bool(message.ednsflags & dns.flags.DO)
    question = Question(identity, flags, name, wire, int(asked.rdtype), edns, dnssec, transport)
    if message.edns > 0:
        reply = _assemble(question, BADVERS, b"", 0)
        return Refusal(reply, "BADVERS", f"EDNS version {message.edns}")
    if int(asked.rdclass) != IN:
        reply = _assemble(question, REFUSED, b"", 0, qclass=int(asked.rdclass))
        return Refusal(reply, "REFUSED", f"class {int(asked.rdclass)}, not IN")
    if question.qtype == OPT or packet[12 : 12 + len(question.wire)] != question.wire:
        return _refuse(identity, flags, FORMERR, "a name with pointers, or OPT asked for")
    return question


def _refuse(identity: int, flags: int, rcode: int, reason: str) -> Refusal:
    """A header alone: what came after it is not echoed, because it was not understood."""
    word = _QR | (flags & (_OPCODE | _RD | _CD)) | _RA | rcode
    return Refusal(_HEADER.pack(identity, word, 0, 0, 0, 0), RCODES[rcode], reason)


def answer(question: Question, pool: Pool, *, allowed: bool, own: bool = False) -> Answer:
    """The answer to a question that was decided.

    Args:
        question: from `parse`.
        pool: of this run; a new name takes an address there.
        allowed: what was decided about the name; `localhost` needs no decision.
        own: it is the name of who asks: its loopback, over IPv4 alone.
    """
    rcode = 0
    data = b""
    if question.local:
        data = {A: _LOCAL_A, AAAA: _LOCAL_AAAA}.get(question.qtype, b"")
    elif own:
        data = _LOCAL_A if question.qtype == A else b""
    elif not allowed:
        rcode = NXDOMAIN
    elif question.qtype == A:
        try:
            data = pool.address(question.name)
        except PoolFullError:
            rcode = SERVFAIL
    record = _RECORD.pack(0xC00C, question.qtype, IN, TTL, len(data)) + data if data else b""
    shown = None
    if data:
        shown = "::1" if question.qtype == AAAA else ".".join(map(str, data))
    return Answer(_assemble(question, rcode, record, 1 if data else 0), RCODES[rcode], shown)


def failure(question: Question) -> Answer:
    """The answer while nothing can be decided: the asker may try again."""
    return Answer(_assemble(question, SERVFAIL, b"", 0), "SERVFAIL", None)


def _assemble(question: Question, rcode: int, record: bytes, count: int, *, qclass: int = IN) -> bytes:
    option = b""
    if question.edns is not None:
        option = _OPTION.pack(0, OPT, PAYLOAD, rcode >> 4, 0, _DO if question.dnssec else 0, 0)
    word = _QR | (question.flags & (_RD | _CD)) | _RA | (rcode & 0xF)
    header = _HEADER.pack(question.id, word, 1, count, 0, 1 if option else 0)
    return header + question.wire + _TAIL.pack(question.qtype, qclass) + record + option
