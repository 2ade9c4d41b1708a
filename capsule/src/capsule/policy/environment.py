"""Variables by which an environment runs code in a program that did not choose it, as the launcher knows them. Pure.

They never pass through a pattern, however wide: only by their whole name (ld.so(8), bash(1), python(1), node(1),
perlrun(1), ruby(1), git(1), java's launcher, lesspipe). It refuses nothing itself.

    passes("PYTHON*", "PYTHONPATH"), passes("*", "LD_PRELOAD"), passes("LD_PRELOAD", "LD_PRELOAD")   # True, False, True
"""

from __future__ import annotations

from capsule.policy.glob import matches_name

RUNS_CODE = (
    "BASH_ENV", "BASH_FUNC_*", "ENV", "GCONV_PATH", "GIT_ASKPASS", "GIT_CONFIG_*", "GIT_EDITOR", "GIT_EXEC_PATH",
    "GIT_EXTERNAL_DIFF", "GIT_PAGER", "GIT_SSH", "GIT_SSH_COMMAND", "GLIBC_TUNABLES", "JAVA_TOOL_OPTIONS", "LD_*",
    "LESSOPEN", "LOCPATH", "NODE_OPTIONS", "PERL5DB", "PERL5OPT", "PROMPT_COMMAND", "PS4", "PYTHONINSPECT",
    "PYTHONSTARTUP", "RUBYOPT",
)  # fmt: skip


def runs_code(name: str) -> bool:
    """Whether a program that finds this variable runs what it names."""
    return any(matches_name(pattern, name) for pattern in RUNS_CODE)


def passes(pattern: str, name: str) -> bool:
    """Whether an entry of `env.pass` lets this name through."""
    return pattern == name or (matches_name(pattern, name) and not runs_code(name))
