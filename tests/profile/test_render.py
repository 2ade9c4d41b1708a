"""The suggested file is valid, commented, and safe whatever the command named its files."""

from dataclasses import replace

from hypothesis import given
from hypothesis import strategies as st
from ruamel.yaml import YAML

from capsule.profile.observation import AddressUse, FileUse
from capsule.profile.render import quote, render_suggestion
from capsule.profile.suggest import suggest
from tests.profile.test_observation import observation
from tests.profile.test_suggest import BASE


def load(text: str) -> object:
    return YAML(typ="safe", pure=True).load(text)


def test_every_line_carries_its_evidence() -> None:
    seen = observation(files=(FileUse("/w/a", read=3), FileUse("/home/u/.ssh/id_rsa", read=1)), lost=2)
    text = render_suggestion(suggest(seen, base=BASE))
    assert "- ./a" in text
    assert "# 3 reads" in text
    assert "LOOK TWICE: SSH keys" in text
    assert "2 events were lost" in text
    assert load(text)["filesystem"] == {"read": ["~/.ssh/id_rsa", "./a"]}  # type: ignore[index]


def test_what_runs_on_the_host_later_is_protected() -> None:
    base = replace(BASE, guards=("/**/.git/hooks", "/w/.husky"))
    seen = observation(files=(FileUse("/w/.git/index", write=1, create=1),), syscalls=(), addresses=())
    found = load(render_suggestion(suggest(seen, base=base)))
    assert found["filesystem"] == {  # type: ignore[index]
        "write": ["./.git"], "protect": ["/**/.git/hooks", "./.husky"],
    }  # fmt: skip


@given(
    st.lists(
        st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]), min_size=1), max_size=60
    )
)
def test_what_is_protected_takes_little_room_and_is_all_there(names: list[str]) -> None:
    found = replace(suggest(observation(), base=BASE), protect=tuple(f"/w/{name}" for name in names))
    text = render_suggestion(found)
    lines = text.partition("protect: [")[2].partition("\n  ]")[0].splitlines()[1:]
    assert all(len(line) <= 104 or line.count('", ') == 0 for line in lines)
    assert load(text)["filesystem"].get("protect", []) == [f"/w/{name}" for name in names]  # type: ignore[index]


@given(st.text(max_size=30))
def test_a_quoted_value_is_that_value_on_one_line(value: str) -> None:
    quoted = quote(value)
    assert quoted.isascii()
    assert quoted.isprintable()
    if not any(0xD800 <= ord(c) <= 0xDFFF for c in value):
        assert load(f"[{quoted}, 1]") == [value, 1]


@given(st.text(st.characters(exclude_characters="/\0", exclude_categories=["Cs"]), min_size=1, max_size=20))
def test_names_cannot_break_out_of_their_line(name: str) -> None:
    seen = observation(command=(name,), files=(FileUse(f"/w/x/{name}", read=1),), syscalls=(), addresses=())
    text = render_suggestion(suggest(seen, base=BASE), name="p")
    assert set(load(text)) == {"version", "name", "extends", "filesystem"}  # type: ignore[call-overload]
    assert text.isascii()


def test_an_address_that_was_tried_in_vain_is_a_comment() -> None:
    addresses = (
        AddressUse("tcp:127.0.0.1:8766", "unanswered", 2),
        AddressUse("unix:@x\nnetwork: {ports: [1]}", "unanswered", 1),
    )
    text = render_suggestion(suggest(observation(files=(), syscalls=(), addresses=addresses), base=BASE))
    assert '# Not suggested: "tcp:127.0.0.1:8766", tried 2 times: nobody listened there' in text
    assert "to allow: network: {ports: [8766]}" in text
    assert not [line for line in text.splitlines() if line.startswith("network:")]
    many = tuple(AddressUse(f"tcp:127.0.0.1:{port}", "unanswered", 1) for port in range(1, 50))
    text = render_suggestion(suggest(observation(files=(), syscalls=(), addresses=many), base=BASE))
    assert "# and 9 more such addresses" in text
