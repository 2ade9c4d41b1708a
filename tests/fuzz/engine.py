"""The loop of guided fuzzing: change an input, try it, keep it when it reached a place that none before it reached.

The same seed tries the same inputs in the same order; only how many fit into the time differs.
Refuses to run without seeds, and on a Python without `sys.monitoring`.

    fuzz(POLICY, seed=1, inputs=1000, seconds=10)      # Outcome(inputs=…, lines=…), or Finding is raised
"""

from __future__ import annotations

import random
import re
import resource
import signal
import sys
import time
from collections.abc import Callable, Hashable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import FrameType

from tests.fuzz.reached import Reached

SLOWEST = 5.0  # seconds of processor time that one input may take
LARGEST = 128 << 20  # bytes by which one input may raise the peak of the process
LONGEST = 32 << 10  # bytes; longer inputs are not made
_ODD = (
    b"", b"-1", b"0", b"1e999", b"9" * 30, b"null", b"\0", b"\t", b"\r", b"\n", b"\xff", b"\xc3\xa9", b"\xef\xbb\xbf",
    b"\xed\xa0\x80", b"\xe2\x80\xae", b"\\ud800", b'"', b"'", b"[" * 40, b"{" * 40, b"*", b"**", b"/../", b"${",
)  # fmt: skip
_WORD = re.compile(rb"[\w./*$~-]+|[^\w\s]|\n *")


@dataclass(frozen=True)
class Target:
    """What is fuzzed.

    Attributes:
        name: of one word.
        check: raises when an input does what none may; returns features beyond code that it reached.
        seeds: what the corpus begins with.
        files: parts of the paths of the code whose places guide.
        words: what to write into inputs besides the words of the seeds.
        repair: makes a changed input pass what no change would pass, such as a digest; told a random number below 4.
    """

    name: str
    check: Callable[[bytes], Iterable[Hashable]]
    seeds: Sequence[bytes]
    files: Sequence[str]
    words: Sequence[bytes] = ()
    repair: Callable[[bytes, int], bytes] = lambda data, _: data


@dataclass(frozen=True)
class Outcome:
    """How many inputs were tried, kept, and how far they got; `first_*` is what the seeds alone reached."""

    inputs: int
    kept: int
    first_lines: int
    lines: int
    first_places: int
    places: int
    seconds: float

    def __str__(self) -> str:
        return (
            f"{self.inputs} inputs in {self.seconds:.1f} s, {self.kept} kept; lines reached {self.first_lines} by the "
            f"seeds, {self.lines} now; places {self.first_places}, {self.places} now"
        )


class Finding(Exception):  # noqa: N818 - a finding is no error of the engine
    """An input on which the check failed."""

    def __init__(self, target: str, data: bytes, number: int, why: BaseException) -> None:
        super().__init__(f"{target}: input {number}, {data[:2000]!r}: {type(why).__name__}: {why}")
        self.data = data


class TooSlow(BaseException):
    """Raised within a check, past every `except Exception`."""


def fuzz(target: Target, *, seed: int, inputs: int, seconds: float, guided: bool = True) -> Outcome:
    """Try the seeds, and then what is made of them until `inputs` were tried or `seconds` of processor time are over.

    Processor time, and not of the seeds: how busy the machine is does not change what a run comes to.

    Raises:
        Finding: for the first input that fails.
    """
    assert target.seeds, "no seed was given"
    rng = random.Random(seed)
    corpus = list(target.seeds)
    words = _words(target)
    begun = time.monotonic()
    _forget_peak()
    with Reached(*target.files) as reached:
        for number, data in enumerate(corpus):
            reached.places.update(_try(target, data, number))
        first_lines, first_places, tried = reached.lines, len(reached.places), len(corpus)
        since = time.process_time()
        while tried < inputs and time.process_time() - since < seconds:
            data = target.repair(_changed(rng, corpus, words), rng.randrange(4))
            before = len(reached.places)
            reached.places.update(_try(target, data, tried))
            tried += 1
            if guided and len(reached.places) > before:
                corpus.append(data)
    kept = len(corpus) - len(target.seeds)
    took = time.monotonic() - begun
    return Outcome(tried, kept, first_lines, reached.lines, first_places, len(reached.places), took)


def _try(target: Target, data: bytes, number: int) -> Iterable[Hashable]:
    def late(_signal: int, _frame: FrameType | None) -> None:
        raise TooSlow(f"more than {SLOWEST} s of processor time")

    before = peak()
    earlier = signal.signal(signal.SIGPROF, late)
    signal.setitimer(signal.ITIMER_PROF, SLOWEST)
    try:
        found = tuple(target.check(data))
    except KeyboardInterrupt:
        raise
    except BaseException as error:
        raise Finding(target.name, data, number, error) from error
    finally:
        signal.setitimer(signal.ITIMER_PROF, 0)
        signal.signal(signal.SIGPROF, earlier)
    if peak() - before > LARGEST:
        raise Finding(target.name, data, number, MemoryError(f"{peak() - before} bytes more than before"))
    return found


def peak() -> int:
    """The most memory that this process ever held, in bytes: KiB on Linux, bytes on macOS (getrusage(2))."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)


def _forget_peak() -> None:
    """Begin the peak anew where Linux can (proc_pid_clear_refs(5), 5): earlier tests would hide what an input takes."""
    place = Path("/proc/self/clear_refs")
    if place.exists():
        place.write_text("5")


def _words(target: Target) -> list[bytes]:
    found = {word for seed in target.seeds for word in _WORD.findall(seed) if len(word) < 48}
    return sorted(found.union(target.words, _ODD))


def _changed(rng: random.Random, corpus: Sequence[bytes], words: Sequence[bytes]) -> bytes:
    """One of the corpus, changed in some places by bytes or by words; now and then two of them joined."""
    # What came late is near what is not known yet, and what is short is quick.
    late = rng.random() < 0.5
    first = len(corpus) * 3 // 4 if late else 0
    data = bytearray(min(rng.choices(corpus[first:], k=2), key=len))
    if rng.random() < 0.1:
        other = rng.choice(corpus)
        data = data[: rng.randrange(len(data) + 1)] + other[rng.randrange(len(other) + 1) :]
    for _ in range(rng.choice((1, 1, 1, 2, 4))):
        _change(rng, data, words)
    return bytes(data[:LONGEST])


def _change(rng: random.Random, data: bytearray, words: Sequence[bytes]) -> None:
    at = rng.randrange(len(data) + 1)
    match rng.randrange(9):
        case 0 if at < len(data):
            data[at] = rng.randrange(256)
        case 1 if at < len(data):
            data[at] ^= 1 << rng.randrange(8)
        case 2:
            del data[at : at + rng.choice((1, 2, 8, 64))]
        case 3:
            data[at:at] = data[at : at + rng.choice((1, 4, 32, 128))] * rng.choice((1, 1, 2, 20))
        case 4:
            data[at:at] = rng.choice(words)
        case 5:
            del data[max(at, len(data) - 256) :]
        case 6:
            lines = data.splitlines(keepends=True)
            if lines:
                lines.insert(rng.randrange(len(lines) + 1), lines.pop(rng.randrange(len(lines))))
                data[:] = b"".join(lines)
        case _:
            near = _WORD.search(data, at)
            if near is not None:
                data[near.start() : near.end()] = rng.choice(words)
