from __future__ import annotations

import json

from hypothesis import given
from hypothesis import strategies as st

from capsem.vm.history import told


def line(seq: int, kind: str, **fields: object) -> bytes:
    return json.dumps({"seq": seq, "time": "2026-01-01T00:00:00Z", "type": kind, **fields}).encode()


def test_a_life_is_told_with_how_its_commands_ended() -> None:
    run = {"event": {"id": "host-1"}, "argv": ["sh", "-c", "exit 3"], "decision": {"action": "allow"}}
    lines = [
        b'{"block":1,"prev":"x"}',
        line(0, "log.created"),
        line(1, "machine.branched", machine="m-00000001"),
        line(2, "machine.started", resumed=True, accelerator="tcg"),
        line(3, "machine.exec", **run),
        line(4, "machine.exec", event={"id": "host-2"}, argv=["rm"], decision={"action": "block"}),
        line(5, "machine.exit", exec="host-1", code=3, signal=None, timed_out=False),
        line(5, "machine.attended", exec="host-1", pid=4, **{"as": "connect"}),
        line(5, "machine.attended", exec="host-1", pid=4, **{"as": "kill"}, signal=9),
        line(5, "machine.attended", exec="host-9", **{"as": "stdin"}),
        line(5, "machine.attended", exec="host-1", pid=4, **{"as": "resize"}, rows=30, columns=100),
        line(5, "machine.deadline", reason="set", after_ms=1500),
        line(5, "machine.deadline", reason="lifted"),
        line(5, "machine.deadline_came", after_ms=60000),
        line(5, "machine.deadline_came", after_ms=10**400),
        line(6, "machine.file", operation="read", target="/x", event={"id": "host-1"}),
        line(7, "machine.marked", mark="x"),
        line(8, "machine.copied", memory=True, copy="a"),
        line(8, "machine.shared", directory="/w", access="live"),
        line(8, "machine.share_refused", act="make", path="out", why="a link"),
        line(9, "machine.crashed", reason="QEMU ended with 137"),
        b'{"seq":10,"time":"2026-01-01T00:00:00Z","type":"machine.st',
    ]
    assert [(one.what, one.detail, one.outcome) for one in told(lines)] == [
        ("branched", "from m-00000001", ""),
        ("started", "resumed, tcg", ""),
        ("exec", "sh -c exit 3", "exit 3"),
        ("exec", "rm", "refused"),
        ("attended", "connect, process 4: sh -c exit 3", ""),
        ("attended", "signal 9, process 4: sh -c exit 3", ""),
        ("attended", "stdin, process ?: ?", ""),
        ("attended", "terminal of 30 rows, 100 columns, process 4: sh -c exit 3", ""),
        ("deadline", "set: ends after 1.5 s", ""),
        ("deadline", "lifted", ""),
        ("deadline_came", "was set to 60 s", ""),
        ("deadline_came", "", ""),
        ("file", "read /x", ""),
        ("copied", "branch a", ""),
        ("shared", "/w live", ""),
        ("share_refused", "make out: a link", ""),
        ("crashed", "QEMU ended with 137", ""),
    ]


@given(
    st.lists(
        st.binary(max_size=200)
        | st.dictionaries(st.text(), st.integers()).map(lambda x: json.dumps(x).encode())
    )
)
def test_whatever_stands_there_is_passed_over(lines: list[bytes]) -> None:
    assert list(told([*lines, line(1, "machine.stopped", asked=True)]))[-1].what == "stopped"


def test_an_end_belongs_to_the_newest_command_of_its_id() -> None:
    """Ids begin again with every start of a machine."""
    lines = []
    for seq, code in ((1, 7), (3, 0)):
        start = {"seq": seq, "type": "machine.exec", "argv": ["a"], "event": {"id": "host-1"}}
        end = {"seq": seq + 1, "type": "machine.exit", "exec": "host-1", "code": code}
        lines += [json.dumps({"time": "2026-01-01T00:00:00Z", **entry}).encode() for entry in (start, end)]
    assert [one.outcome for one in told(lines)] == ["exit 7", "exit 0"]
