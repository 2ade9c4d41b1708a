"""An attack as a value: who thought of it, what it needs, what is done inside, and how the host judges.

A case's act is a function whose *text* runs inside the sandbox; its judge is a function that runs on the
host and returns the harm it can see there, or None. The same act without a sandbox is the control: where
it does no harm either, nothing was learnt and the result is INCONCLUSIVE.
Refused here: a judge that believes what the attacker says about success. Words from inside can only turn
a PASS into an INCONCLUSIVE.

    FAMILY = Family("filesystem")

    @FAMILY.case("fs.symlink-write", 1, "write through a symbolic link that leaves the workspace")
    def symlink_write(a: Inside) -> None:
        os.symlink(a.outside + "/canary", a.ws + "/link")
        a.write(a.ws + "/link")
"""

from __future__ import annotations

import enum
import inspect
import textwrap
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from capsule.attack.inside import Inside
    from capsule.attack.stage import Stage

Act = Callable[["Inside"], None]
Judge = Callable[["Stage"], "str | None"]
Prepare = Callable[["Stage"], None]


class Verdict(enum.StrEnum):
    """What was learnt: the sandbox held, it did not, or this host could not tell."""

    PASS = "PASS"
    FAIL = "FAIL"
    INCONCLUSIVE = "INCONCLUSIVE"


@dataclass(frozen=True)
class Launch:
    """How the command of a case is started, where that differs from the plain way.

    Attributes:
        cwd: Working directory, relative to the stage ("ws", "home", "outside") or absolute.
        arguments: Extra arguments of `capsule run`; `{secret}` is substituted.
        words: Extra words at the end of the command itself; `{secret}` is substituted.
        environment: Extra variables of the *caller's* environment; the stage's paths are substituted.
        narrow: A piece of policy laid over the user's own: it may only narrow.
        policy: The text of a policy used instead of the user's; None for the user's.
        bare: Start without naming any policy, as in a directory that has none.
        seconds: What `capsule run --timeout` gets.
        listens: Whether standard input is a pipe the host holds open until it has looked.
    """

    cwd: str = "ws"
    arguments: tuple[str, ...] = ()
    words: tuple[str, ...] = ()
    environment: Mapping[str, str] = field(default_factory=dict)
    narrow: Mapping[str, object] = field(default_factory=dict)
    policy: bytes | None = None
    bare: bool = False
    seconds: float = 8.0
    listens: bool = False


@dataclass(frozen=True)
class Case:
    """One attack.

    Attributes:
        id: Stable name, `family.what`.
        number: Place in the project's list of attacks (docs/concepts/attacks.md); 0 for one of our own.
        title: What is tried, in one line.
        source: Who fell to it: a CVE, an issue, or the manual page that warns of it.
        act: The function whose text runs inside.
        judge: Returns the harm the host can see, or None.
        prepare: Sets the host's side up before the command starts.
        during: Looks, from the host, while the act stands still at `ready()`.
        control: Another act for the control, where the same one would hurt the host.
        needs: Names of what this host must offer (see `capsule.attack.host`).
        launch: How it is started.
        may_die: Being killed in the attempt is an answer too.
        refusal_holds: A run that `capsule` refuses to start counts as held.
        tried_without: The control is this sentence of reason why none can be run; the judge is proven
            by a unit test instead.
    """

    id: str
    number: int
    title: str
    act: Act
    judge: Judge
    source: str = ""
    prepare: Prepare | None = None
    during: Prepare | None = None
    control: Act | None = None
    needs: tuple[str, ...] = ()
    launch: Launch = field(default_factory=Launch)
    may_die: bool = False
    refusal_holds: bool = False
    tried_without: str = ""

    @property
    def family(self) -> str:
        """The part of the id before the first dot."""
        return self.id.split(".", 1)[0]


@dataclass(frozen=True)
class Result:
    """What one case came to, and why."""

    case: Case
    verdict: Verdict
    why: str
    seconds: float


class Family:
    """The cases of one subject, in the order in which they are written."""

    def __init__(self, judge: Judge) -> None:
        """Make an empty family; `judge` is used by cases that name none."""
        self.cases: list[Case] = []
        self._judge = judge

    def case(
        self,
        id: str,  # noqa: A002
        number: int,
        title: str,
        *,
        source: str = "",
        judge: Judge | None = None,
        prepare: Prepare | None = None,
        during: Prepare | None = None,
        control: Act | None = None,
        needs: tuple[str, ...] = (),
        launch: Launch | None = None,
        may_die: bool = False,
        refusal_holds: bool = False,
        tried_without: str = "",
    ) -> Callable[[Act], Act]:
        """Declare the decorated function the act of a new case; arguments as in `Case`."""

        def declare(act: Act) -> Act:
            self.cases.append(
                Case(
                    id=id,
                    number=number,
                    title=title,
                    act=act,
                    judge=judge or self._judge,
                    source=source,
                    prepare=prepare,
                    during=during,
                    control=control,
                    needs=needs,
                    launch=launch or Launch(listens=during is not None),
                    may_die=may_die,
                    refusal_holds=refusal_holds,
                    tried_without=tried_without,
                )
            )
            return act

        return declare


def text_of(act: Act) -> str:
    """The source of an act without its decorators, ready to be sent inside."""
    lines = textwrap.dedent(inspect.getsource(act)).splitlines(keepends=True)
    start = next(index for index, line in enumerate(lines) if line.startswith("def "))
    return "".join(lines[start:])
