"""Plans for tests: from a policy's text, or a preset.

access_of("filesystem: {read: [/a]}").path("/a", "read")
"""

from __future__ import annotations

from capsule.policy.merge import resolve
from capsule.policy.presets import load_preset
from capsule.sandbox.access import Access, Variables
from capsule.sandbox.compiler import compile_policy
from capsule.sandbox.plan import Plan
from tests.policy.documents import DictLoader, resolve_text

VARIABLES = Variables("/w", "/home/u", "/w/c")


def plan_of(text: str) -> Plan:
    """The plan of a policy; `version: 1` is put before it."""
    return compile_policy(resolve_text(f"version: 1\n{text}"))


def preset_plan(name: str) -> Plan:
    """The plan of a preset."""
    source = load_preset(name)
    assert source is not None
    return compile_policy(resolve(source, DictLoader()))


def access_of(text: str, variables: Variables = VARIABLES) -> Access:
    """A policy's text, ready to be asked."""
    policy = resolve_text(f"version: 1\n{text}")
    return Access(compile_policy(policy), variables, policy.sections.environment)
