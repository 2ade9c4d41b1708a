"""Few grants that cover every use, and nothing too wide."""

from hypothesis import given
from hypothesis import strategies as st

from capsule.profile.collapse import Collapsed, collapse


def test_a_few_files_stay_files() -> None:
    assert collapse({"/w/a": 1, "/w/b": 2}, whole=(), never=("/",)) == (
        Collapsed("/w/a", 1, 1),
        Collapsed("/w/b", 2, 1),
    )


def test_many_files_become_their_directory() -> None:
    uses = {f"/w/src/{n}": 1 for n in range(5)}
    assert collapse(uses, whole=(), never=("/", "/w")) == (Collapsed("/w/src", 5, 5),)


def test_a_listed_directory_is_granted_whole() -> None:
    assert collapse({"/w/d/a": 3}, whole=("/w/d",), never=("/",)) == (Collapsed("/w/d", 3, 1),)


def test_what_is_too_wide_is_never_granted() -> None:
    uses = {f"/home/u/{n}": 1 for n in range(9)}
    found = collapse(uses, whole=("/home/u",), never=("/", "/home", "/home/u"))
    assert [grant.path for grant in found] == sorted(uses)


def test_a_file_used_as_such_and_as_a_directory_is_one_grant() -> None:
    assert collapse({"/w/d": 1, "/w/d/a": 1}, whole=(), never=("/",)) == (Collapsed("/w/d", 2, 2),)


def test_a_store_of_names_that_come_from_contents_is_granted_whole() -> None:
    digest = "37d08d11ce55e78e8a23045b20aa1d8e0af7fa"
    for below in (f"14/{digest}", f"14/37/{digest[2:]}"):
        uses = {"/w/.git/HEAD": 2, f"/w/.git/objects/{below}": 1}
        found = collapse(uses, whole=(), never=("/", "/w"))
        assert found == (Collapsed("/w/.git/HEAD", 2, 1), Collapsed("/w/.git/objects", 1, 1))
    # Neither a short name nor one in another place is one.
    for name in ("/w/ab/cdef", f"/w/src/{digest}", f"/w/abc/{digest}"):
        assert collapse({name: 1}, whole=(), never=("/",)) == (Collapsed(name, 1, 1),)


SEGMENTS = st.lists(st.sampled_from(["a", "b", "c", "d", "e", "f", "g"]), min_size=1, max_size=4)


@given(st.dictionaries(SEGMENTS.map(lambda s: "/" + "/".join(s)), st.integers(1, 9), max_size=40))
def test_every_use_is_covered_once_and_no_grant_lies_beneath_another(uses: dict[str, int]) -> None:
    found = collapse(uses, whole=(), never=("/",))
    for path in uses:
        assert sum(path == g.path or path.startswith(g.path + "/") for g in found) == 1
    assert sum(grant.count for grant in found) == sum(uses.values())
    assert sum(grant.names for grant in found) == len(uses)
    assert "/" not in {grant.path for grant in found}
