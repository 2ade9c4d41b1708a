from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from jsonschema import Draft202012Validator

from capsem.errors import UsageError
from capsem.vm.settings import KEYS, Settings, SettingsError, changed, line_of, read, schema, value_of


def test_the_organisation_wins_over_the_user_and_the_user_over_what_is_built_in() -> None:
    corp = read('[machine]\nmemory = "1G"\n', "/etc/corp.toml")
    user = read('# mine\n[machine]\nmemory = "2G"\ncpu = 2\n', "/u/settings.toml")
    settings = Settings(corp, user)
    memory, cpu, image = (settings.of(f"machine.{name}") for name in ("memory", "cpu", "image"))
    assert (memory.value, memory.place, memory.locked) == ("1G", "/etc/corp.toml:2", True)
    assert memory.passed_over == (("/u/settings.toml:3", "2G"), ("built-in", "512M"))
    assert (cpu.value, cpu.place, cpu.locked) == (2, "/u/settings.toml:4", False)
    assert (image.value, image.place) == ("default", "built-in")
    assert settings.mebibytes("machine.memory") == 1024
    assert len(settings.all()) == len(KEYS)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("[machine]\n\nmemroy = '1G'", "f:3: there is no setting 'machine.memroy'"),
        ("[machin]\nmemory = '1G'", "f:2: there is no setting 'machin.memory'"),
        ("machine.memroy = '1G'", "f:1: there is no setting 'machine.memroy'"),
        ("x = 1", "f:1: there is no setting 'x'"),
        ("[machine]\nmemory = '1M'", "f:2: machine.memory: "),
        ("[machine]\nmemory = 512", "f:2: machine.memory: "),
        ("[machine]\ncpu = 0", "f:2: machine.cpu: "),
        ("[machine]\ncpu = true", "f:2: machine.cpu: "),
        ("[service]\nidle = '5'", "f:2: service.idle: "),
        ('[machine]\nimage = "a\\u001b[2J"', "f:2: machine.image: "),
        ("[machine", "f is no TOML"),
        ("[" * 10_000, "f is no TOML"),
    ],
)
def test_what_is_wrong_is_said_with_file_and_line(text: str, said: str) -> None:
    with pytest.raises(SettingsError) as refused:
        read(text, "f")
    assert str(refused.value.message).startswith(said)


def test_the_nearest_name_is_said() -> None:
    with pytest.raises(UsageError) as refused:
        Settings(None, None).of("machine.mem")
    assert refused.value.next_step == "did you mean machine.memory?"
    with pytest.raises(UsageError, match="no setting"):
        value_of("nothing", "1")
    with pytest.raises(UsageError, match=r"service\.idle: 'x' is no number"):
        value_of("service.idle", "x")


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ("", '[machine]\nmemory = "1G"\n'),
        ("# a\n[machine]\ncpu = 2 # b\n\n[service]\nidle = 5\n",
         '# a\n[machine]\ncpu = 2 # b\nmemory = "1G"\n\n[service]\nidle = 5\n'),
        ('[machine]\nmemory = "2G"\n', '[machine]\nmemory = "1G"\n'),
        ("[service]\nidle = 5\n", '[service]\nidle = 5\n\n[machine]\nmemory = "1G"\n'),
    ],
)  # fmt: skip
def test_a_change_leaves_what_stands_beside_it(before: str, after: str) -> None:
    assert changed(before, "machine.memory", "1G") == after
    assert read(after, "f").values["machine.memory"][0] == "1G"
    assert line_of(after, "machine", "memory") > 1


@given(st.text(min_size=1, max_size=60).filter(str.isprintable))
def test_every_text_that_may_be_set_is_read_back(value: str) -> None:
    assert read(changed("", "machine.policy", value), "f").values["machine.policy"][0] == value


def test_the_page_has_every_setting(repository: Path) -> None:
    page = (repository / "docs/formats/settings.md").read_text()
    for key in KEYS.values():
        assert f"| `{key.name}` | `{key.default}` | {key.about} |" in page


def test_the_schema_says_what_the_reader_does() -> None:
    found = schema()
    Draft202012Validator.check_schema(found)
    valid = Draft202012Validator(found).is_valid
    names = {f"{section}.{key}" for section, one in found["properties"].items() for key in one["properties"]}
    assert names == set(KEYS)
    assert valid({section: {} for section in found["properties"]})
    for key in KEYS.values():
        section, _, name = key.name.partition(".")
        assert valid({section: {name: key.default}}), key.name
        assert not valid({section: {name: []}}), key.name
    refused: tuple[dict[str, dict[str, object]], ...] = (
        {"machine": {"memroy": "1G"}}, {"x": {}}, {"service": {"pool": 65}}, {"clean": {"logs": 0}},
    )  # fmt: skip
    for wrong in refused:
        assert not valid(wrong)


def test_days_and_sizes_that_are_none() -> None:
    settings = Settings(None, read('[clean]\nlogs = 7\n[limits]\nhome = "2G"\n', "f"))
    assert (settings.days("clean.logs"), settings.days("clean.images")) == (7, None)
    assert (settings.mebibytes("limits.home"), settings.mebibytes("limits.disk")) == (2048, None)
    assert value_of("clean.templates", "none") == "none"
    assert value_of("clean.templates", "7") == 7
