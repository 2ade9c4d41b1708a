"""What a program in a machine finds of itself: its user's home, the machine's own name; and what a refusal shows."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.vm.logged import logged
from tests.vm.marks import machines
from tests.vm.test_lives import answered
from tests.vm.test_machines import Home, home

__all__ = ["home"]

pytestmark = machines(900)
SAYS = 'echo "$HOME|$USER|$LOGNAME"'


def test_a_user_has_the_home_of_its_account_and_without_one_none_of_root_s(home: Home) -> None:
    machine = home.create()
    said = {}
    for words in (("0",), ("1234",), ("1",), ("1234", "-e", "HOME=/given")):
        said[words] = home.text("exec", "--user", *words, machine, "--", "sh", "-c", SAYS)
    assert said == {
        ("0",): "/root|root|root", ("1234",): "/||", ("1",): "/usr/sbin|daemon|daemon",
        ("1234", "-e", "HOME=/given"): "/given||",
    }  # fmt: skip
    # One that is made later has its own; a file that does not end is no accounts.
    home.capsem("exec", machine, "--", "sh", "-c", "echo 'me:x:1234:1234::/home/me:/bin/sh' >>/etc/passwd")
    assert home.text("exec", "--user", "1234", machine, "--", "sh", "-c", SAYS) == "/home/me|me|me"
    home.capsem("exec", machine, "--", "sh", "-c", "rm /etc/passwd; mkfifo /etc/passwd")
    assert home.text("exec", "--user", "1234", machine, "--", "/bin/sh", "-c", SAYS) == "/||"
    home.capsem("delete", "--force", machine)


def test_a_machine_s_own_name_is_found_inside_also_in_a_clone(home: Home) -> None:
    home.create("-n", "first")
    home.capsem("exec", "first", "--", "sh", "-c", "echo '10.0.0.9 mine' >>/etc/hosts")
    home.capsem("branch", "first", "1", "-n", "second")
    for name in ("first", "second"):
        # As getaddrinfo(3) asks, for any kind of address: so do git, ssh and Python.
        own = home.text("exec", name, "--", "sh", "-c", "getent ahosts $(hostname)").split()
        assert own[:3] == ["127.0.0.1", "STREAM", name]
        assert home.text("exec", name, "--", "getent", "ahosts", "mine").split()[:3] == [
            "10.0.0.9",
            "STREAM",
            "mine",
        ]
        log = home.info(name)["log"]
        assert [one for one in logged(log) if one.get("dns") and one["decision"]["action"] == "block"] == []
        # What is not its own is asked for outside, and on the log.
        answered(home, "exec", name, "--", "getent", "ahosts", "elsewhere.example")
        refused = [one for one in logged(log) if one.get("dns") and one["decision"]["action"] == "block"]
        assert {one["dns"]["name"] for one in refused} == {"elsewhere.example"}
    assert answered(home, "exec", "second", "--", "getent", "ahosts", "first")[0] == 2, "another's name"
    home.capsem("delete", "--force", "first")
    home.capsem("delete", "--force", "second")


@pytest.mark.needs("egress")
def test_what_no_rule_allows_is_refused_with_the_line_that_would(home: Home, tmp_path: Path) -> None:
    rules = tmp_path / "rules.yaml"
    rules.write_text("version: 1\nrules:\n  - {id: none, on: process, when: 'false', action: allow}\n")
    words = ("--", "sh", "-c", 'echo "it\'s allowed"')
    home.create("-n", "ruled", "--rules", str(rules))
    code, said = answered(home, "exec", "ruled", *words)
    assert code == 126
    assert f"add it to {rules} under rules:" in said
    line = "- {id: " + said.rpartition("- {id: ")[2].strip()
    assert "commands and files that none of them allows are refused" in home.text("info", "ruled")
    assert json.loads(home.capsem("info", "--json", "ruled"))["unruled"] == "refused"
    home.capsem("delete", "--force", "ruled")
    with rules.open("a") as file:
        file.write(f"  {line}\n")
    home.create("-n", "ruled", "--rules", str(rules))
    assert home.text("exec", "ruled", *words) == "it's allowed"
    assert answered(home, "exec", "ruled", "--", "ls")[0] == 126
    home.capsem("delete", "--force", "ruled")
