"""Questions and answers, with dnspython as the oracle of both."""

from __future__ import annotations

import random
import time

import dns.edns
import dns.exception
import dns.flags
import dns.message
import dns.opcode
import dns.rcode
import dns.rdataclass
import dns.rdatatype
import pytest
from hypothesis import given
from hypothesis import strategies as st

from capsule.egress.dns import LONGEST, PAYLOAD, Answer, Question, Refusal, Transport, answer, failure, parse
from capsule.egress.pool import Pool


def ask(name: str, qtype: str = "A", **options: object) -> bytes:
    return dns.message.make_query(name, qtype, id=4711, **options).to_wire()  # type: ignore[arg-type]


def parsed(packet: bytes, transport: Transport = "udp") -> Question:
    question = parse(packet, transport)
    assert isinstance(question, Question), question
    return question


def refused(packet: bytes) -> Refusal:
    refusal = parse(packet, "udp")
    assert isinstance(refusal, Refusal), refusal
    return refusal


def reply(packet: bytes, *, allowed: bool = True, pool: Pool | None = None) -> dns.message.Message:
    return dns.message.from_wire(
        answer(parsed(packet), Pool() if pool is None else pool, allowed=allowed).wire
    )


def test_an_allowed_name_gets_its_address() -> None:
    pool = Pool()
    for _ in range(2):
        message = reply(ask("pkgs.org"), pool=pool)
        assert message.rcode() == dns.rcode.NOERROR
        assert [str(record) for record in message.answer] == ["pkgs.org. 60 IN A 198.18.0.2"]
        assert message.flags & dns.flags.RA
        assert not message.flags & dns.flags.AA
    assert str(reply(ask("files.example"), pool=pool).answer[0][0]) == "198.18.0.3"


@pytest.mark.parametrize("qtype", ["AAAA", "HTTPS", "SVCB", "TXT", "MX", "ANY", "TYPE65400", "PTR"])
def test_other_types_of_an_allowed_name_are_empty(qtype: str) -> None:
    pool = Pool()
    message = reply(ask("pkgs.org", qtype), pool=pool)
    assert message.rcode() == dns.rcode.NOERROR
    assert not message.answer
    assert not len(pool), "an empty answer takes no address"


@pytest.mark.parametrize("qtype", ["A", "AAAA", "TXT"])
def test_other_names_do_not_exist(qtype: str) -> None:
    pool = Pool()
    message = reply(ask("evil.example", qtype), allowed=False, pool=pool)
    assert message.rcode() == dns.rcode.NXDOMAIN
    assert not message.answer
    assert not len(pool)


@pytest.mark.parametrize("name", ["localhost", "LOCALHOST", "app.localhost"])
def test_localhost_is_the_loopback_whatever_was_decided(name: str) -> None:
    for allowed in (True, False):
        assert str(reply(ask(name), allowed=allowed).answer[0][0]) == "127.0.0.1"
        assert str(reply(ask(name, "AAAA"), allowed=allowed).answer[0][0]) == "::1"
        assert not reply(ask(name, "TXT"), allowed=allowed).answer
    assert not parsed(ask("notlocalhost")).local


def test_who_asks_for_its_own_name_gets_its_loopback_over_one_protocol() -> None:
    pool, question = Pool(), parsed(ask("build"))
    found = dns.message.from_wire(answer(question, pool, allowed=False, own=True).wire)
    assert str(found.answer[0][0]) == "127.0.0.1"
    other = dns.message.from_wire(answer(parsed(ask("build", "AAAA")), pool, allowed=False, own=True).wire)
    assert (other.rcode(), other.answer) == (dns.rcode.NOERROR, [])
    assert not len(pool)


def test_case_is_echoed_and_the_name_is_decided_in_lower_case() -> None:
    question = parsed(ask("PkGs.oRg"))
    assert question.name == "pkgs.org"
    message = reply(ask("PkGs.oRg"))
    assert message.question[0].name.to_text() == "PkGs.oRg."
    assert message.answer[0].name.to_text() == "PkGs.oRg."
    pool = Pool()
    assert reply(ask("PKGS.org"), pool=pool).answer[0][0] == reply(ask("pkgs.ORG"), pool=pool).answer[0][0]


@pytest.mark.parametrize(("payload", "dnssec"), [(4096, False), (512, True), (0, False)])
def test_edns_is_answered_with_edns(payload: int, dnssec: bool) -> None:
    packet = ask("pkgs.org", use_edns=0, payload=payload, want_dnssec=dnssec)
    assert parsed(packet).edns == payload
    message = reply(packet)
    assert message.edns == 0
    assert message.payload == PAYLOAD
    assert bool(message.ednsflags & dns.flags.DO) is dnssec
    assert reply(ask("pkgs.org", use_edns=False)).edns == -1


def test_edns_options_are_read_and_not_echoed() -> None:
    packet = ask("pkgs.org", use_edns=0, options=[dns.edns.GenericOption(dns.edns.COOKIE, b"12345678")])
    assert not reply(packet).options
    assert str(reply(packet).answer[0][0]) == "198.18.0.2"


def test_an_unknown_edns_version_is_badvers() -> None:
    refusal = refused(ask("pkgs.org", use_edns=1))
    assert refusal.wire is not None
    assert dns.message.from_wire(refusal.wire).rcode() == dns.rcode.BADVERS
    assert refusal.rcode == "BADVERS"


def test_only_the_internet_class() -> None:
    refusal = refused(ask("version.bind", "TXT", rdclass=dns.rdataclass.CH))
    assert refusal.wire is not None
    assert dns.message.from_wire(refusal.wire).rcode() == dns.rcode.REFUSED


def _edited(at: int, new: bytes) -> bytes:
    packet = bytearray(ask("pkgs.org"))
    packet[at : at + len(new)] = new
    return bytes(packet)


@pytest.mark.parametrize(
    ("packet", "rcode"),
    [
        (_edited(2, b"\x08\x00"), "NOTIMP"),  # IQUERY
        (_edited(2, b"\x28\x00"), "NOTIMP"),  # UPDATE
        (_edited(2, b"\x03\x00"), "FORMERR"),  # truncated
        (_edited(4, b"\0\0"), "FORMERR"),
        (_edited(4, b"\0\x02"), "FORMERR"),
        (_edited(6, b"\0\x01"), "FORMERR"),
        (_edited(8, b"\0\x01"), "FORMERR"),
        (_edited(10, b"\0\x01"), "FORMERR"),
        (_edited(12, b"\xc0\x0c"), "FORMERR"),  # points at itself
        (_edited(12, b"\x40"), "FORMERR"),  # a label type that does not exist
        (_edited(12, b"\x3f"), "FORMERR"),  # a label past the end
        (ask("pkgs.org")[:-1], "FORMERR"),
        (ask("pkgs.org") + b"\0", "FORMERR"),
        (ask("pkgs.org", use_edns=0)[:-1], "FORMERR"),
        (_edited(12, b"\0\0\x29\0\x01")[:17], "FORMERR"),  # OPT as the question
        (ask("pkgs.org")[:12] + b"\x01a\xc0\x04\0\x01\0\x01", "FORMERR"),  # a pointer into the header
        (
            ask("pkgs.org")[:12] + (b"\x3f" + b"a" * 63) * 4 + b"\0\0\x01\0\x01",
            "FORMERR",
        ),  # 257 bytes of name
    ],
)
def test_malformed_questions(packet: bytes, rcode: str) -> None:
    refusal = refused(packet)
    assert refusal.rcode == rcode
    assert refusal.wire is not None
    assert len(refusal.wire) == 12, "nothing of it is echoed but the id"
    assert refusal.wire[:2] == packet[:2]
    assert dns.rcode.to_text(dns.message.from_wire(refusal.wire).rcode()) == rcode


@pytest.mark.parametrize("packet", [b"", b"\0" * 11, _edited(2, b"\x81\x80"), b"\xff" * 40])
def test_silence(packet: bytes) -> None:
    assert refused(packet).wire is None, "an answer to an answer is a loop"


def test_a_full_pool_is_a_failure_to_be_tried_again() -> None:
    pool = Pool(limit=1)
    reply(ask("a.example"), pool=pool)
    assert reply(ask("b.example"), pool=pool).rcode() == dns.rcode.SERVFAIL
    assert reply(ask("a.example"), pool=pool).rcode() == dns.rcode.NOERROR
    assert dns.message.from_wire(failure(parsed(ask("c.example"))).wire).rcode() == dns.rcode.SERVFAIL


def test_recursion_and_checking_bits_are_kept() -> None:
    packet = _edited(2, b"\x00\x10")
    message = reply(packet)
    assert not message.flags & dns.flags.RD
    assert message.flags & dns.flags.CD
    assert reply(ask("a.example")).flags & dns.flags.RD


def test_names_that_are_not_plain_are_escaped_never_decoded() -> None:
    packet = ask("pkgs.org").replace(b"\x04pkgs", b"\x04pk.\0")
    assert parsed(packet).name == "pk\\.\\000.org"
    packet = ask("pkgs.org").replace(b"\x04pkgs", b"\x04p\xc3\xa9s")
    assert parsed(packet).name == "p\\195\\169s.org"


def test_the_root_has_a_name() -> None:
    assert parsed(ask(".")).name == "."
    assert reply(ask(".", "NS"), allowed=False).rcode() == dns.rcode.NXDOMAIN


def test_type_names() -> None:
    for qtype in ("A", "AAAA", "HTTPS", "CAA", "TYPE65400"):
        assert parsed(ask("a.example", qtype)).type_name == qtype


LABEL = st.text("abcXYZ019-_", min_size=1, max_size=63)
NAMES = st.lists(LABEL, min_size=1, max_size=8).map(".".join).filter(lambda name: len(name) <= 253)


@given(NAMES, st.integers(0, 0xFFFF), st.sampled_from([None, 0, 512, 1232, 65535]), st.booleans())
def test_parsing_agrees_with_dnspython(name: str, qtype: int, payload: int | None, allowed: bool) -> None:
    if qtype == dns.rdatatype.OPT:
        return
    query = dns.message.make_query(
        name, dns.rdatatype.RdataType.make(qtype), use_edns=payload is not None, payload=payload or 0
    )
    question = parsed(query.to_wire())
    assert question.name == query.question[0].name.canonicalize().to_text(omit_final_dot=True)
    assert question.qtype == qtype
    pool = Pool()
    given_back = answer(question, pool, allowed=allowed)
    message = dns.message.from_wire(given_back.wire)
    assert query.is_response(message)
    assert len(given_back.wire) <= LONGEST < 512
    assert (message.edns >= 0) is (payload is not None)
    assert bool(message.answer) is (allowed and qtype == 1)
    if message.answer:
        assert str(message.answer[0][0]) == given_back.address
        assert pool.name(str(given_back.address)) == question.name


def test_the_longest_name_fits() -> None:
    name = ".".join(["a" * 63, "b" * 63, "c" * 63, "d" * 61])
    given_back = answer(parsed(ask(name, use_edns=0)), Pool(), allowed=True)
    assert len(given_back.wire) <= LONGEST
    assert str(dns.message.from_wire(given_back.wire).answer[0][0]) == "198.18.0.2"


def _mutations(seed: int, count: int) -> list[bytes]:
    rng = random.Random(seed)
    corpus = [
        ask("pkgs.org"), ask("PkGs.oRg", "AAAA", use_edns=0), ask("_dmarc.a.example", "TXT", want_dnssec=True),
        ask("a." * 100 + "example", "HTTPS"),
        ask("b.example", use_edns=0, options=[dns.edns.ECSOption("10.0.0.0", 8)]),
        ask("b.example", use_edns=0, options=[dns.edns.GenericOption(dns.edns.COOKIE, b"8bytes!!")]),
    ]  # fmt: skip
    found = []
    for _ in range(count):
        packet = bytearray(rng.choice(corpus))
        for _ in range(rng.randint(1, 6)):
            kind, at = rng.randrange(4), rng.randrange(len(packet))
            if kind == 0:
                packet[at] = rng.randrange(256)
            elif kind == 1:
                packet[at] ^= 1 << rng.randrange(8)
            elif kind == 2:
                del packet[at : at + rng.randint(1, 8)]
            else:
                packet[at:at] = rng.randbytes(rng.randint(1, 8))
            if not packet:
                packet = bytearray(b"\0")
        found.append(bytes(packet))
    return found


def test_mutated_packets_are_answered_or_refused_as_dnspython_reads_them() -> None:
    pool = Pool()
    accepted = 0
    for packet in _mutations(20, 10_000):
        question = parse(packet, "udp")
        if isinstance(question, Refusal):
            if question.wire is not None:
                assert dns.message.from_wire(question.wire).rcode() != dns.rcode.NOERROR
            continue
        accepted += 1
        query = dns.message.from_wire(packet)
        assert question.name == query.question[0].name.canonicalize().to_text(omit_final_dot=True)
        assert (question.qtype, 1) == (query.question[0].rdtype, query.question[0].rdclass)
        message = dns.message.from_wire(answer(question, pool, allowed=True).wire)
        assert query.is_response(message)
    assert accepted > 500, "the mutations are not all noise"


def test_what_dnspython_accepts_is_accepted() -> None:
    """The other way round: nothing well-formed is refused, but for the reasons of the module's first lines."""
    for packet in _mutations(21, 5_000):
        try:
            query = dns.message.from_wire(packet)
        except (dns.exception.DNSException, ValueError):
            continue
        usual = (
            query.opcode() == dns.opcode.QUERY and not query.flags & (dns.flags.QR | dns.flags.TC)
            and packet[4:10] == b"\0\x01\0\0\0\0" and query.question[0].rdclass == 1
            and query.question[0].rdtype != dns.rdatatype.OPT and query.edns <= 0
            and packet[12:].startswith(query.question[0].name.to_wire() or b"")
        )  # fmt: skip
        assert isinstance(parse(packet, "udp"), Question) is usual, packet


@pytest.mark.serial
def test_fast_enough() -> None:
    """5,000 answers a second are asked for; well over that, with the event, on a slow machine too."""
    from capsule.egress.dns_record import Tally, describe

    packets = [ask(f"host{number}.example", use_edns=0 if number % 2 else False) for number in range(2000)]
    best = 0.0
    for _ in range(3):
        pool, tally = Pool(), Tally()
        start = time.perf_counter()
        for now, packet in enumerate(packets):
            question = parse(packet, "udp")
            assert isinstance(question, Question)
            given_back: Answer = answer(question, pool, allowed=True)
            tally.add(describe(question, given_back), now)
        best = max(best, len(packets) / (time.perf_counter() - start))
    assert best > 5_000, f"{best:.0f} answers a second"
