"""Does a policy do what its own `examples` say? Each example is decided as the launcher would decide it.

run_examples(policy, access)[0].passed
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import cast

from capsule.policy.model import Example, Policy
from capsule.policy.paths import shown
from capsule.policy.request import parse_request
from capsule.sandbox.access import Access, Decision, Want


@dataclass(frozen=True, slots=True)
class ExampleResult:
    """An example and what was decided."""

    example: Example
    decision: Decision

    @property
    def passed(self) -> bool:
        """Whether the decision is the expected one."""
        return self.decision.granted == self.example.expect

    @property
    def title(self) -> str:
        """`deny write ./x`."""
        return (
            f"{'allow' if self.example.expect else 'deny'} {self.example.kind} {shown(self.example.subject)}"
        )


def run_examples(policy: Policy, access: Access) -> tuple[ExampleResult, ...]:
    """Decide every example of the policy, in the order of the file."""
    return tuple(
        ExampleResult(example, decide(access, example.kind, example.subject)) for example in policy.examples
    )


def decide(access: Access, kind: str, subject: str) -> Decision:
    """One decision; `subject` is a path in plan form, an address, a request, a system call or a variable's name."""
    if kind == "connect":
        if subject.startswith("unix:"):
            subject = "unix:" + access.variables.path(subject.removeprefix("unix:"))
        return access.address(subject)
    if kind == "request":
        return access.request(parse_request(subject))
    if kind == "syscall":
        return access.syscall(subject)[0]
    if kind == "env":
        return access.variable(subject)
    return access.path(access.variables.path(subject), cast(Want, kind))
