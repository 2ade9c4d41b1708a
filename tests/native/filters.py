"""Hosts that give less, made from this one: a seccomp filter around the launcher, as a container engine sets one.

Each constant is a program text for ``python -c``: it installs its filter and becomes the command in its arguments.

Example: ``Capsule(binary, workspace, before=(sys.executable, "-c", CONTAINER))``
"""

from __future__ import annotations

_FRAME = """
import ctypes, errno, os, platform, struct, sys
libc = ctypes.CDLL(None, use_errno=True)
X86 = platform.machine() == "x86_64"
NR = dict(clone=56, clone3=435, unshare=272, mount=165, pidfd_getfd=438, landlock=444, seccomp=317) if X86 else \\
     dict(clone=220, clone3=435, unshare=97, mount=40, pidfd_getfd=438, landlock=444, seccomp=277)
ALLOW, NO, LOAD, EQUAL, SET = 0x7FFF0000, 0x50000, 0x20, 0x15, 0x45
def refuse(name, code):
    return [(LOAD, 0, 0, 0), (EQUAL, 0, 1, NR[name]), (6, 0, 0, NO | code)]
def refuse_namespaces():
    # clone with CLONE_NEWUSER: the flags are the first argument, whose lower half is at 16.
    flags = [(LOAD, 0, 0, 16), (SET, 0, 1, 0x10000000), (6, 0, 0, NO | errno.EPERM)]
    return [(LOAD, 0, 0, 0), (EQUAL, 0, 3, NR["clone"]), *flags]
def container(*more):
    calls = ["unshare", "mount", *more]
    lines = [line for name in calls for line in refuse(name, errno.EPERM)]
    install([*refuse("clone3", errno.ENOSYS), *refuse_namespaces(), *lines])
def install(lines, flags=0):
    text = b"".join(struct.pack("HBBI", *line) for line in [*lines, (6, 0, 0, ALLOW)])
    code = ctypes.create_string_buffer(text)
    program = ctypes.create_string_buffer(struct.pack("HxxxxxxP", len(text) // 8, ctypes.addressof(code)))
    assert libc.prctl(38, 1, 0, 0, 0) == 0
    made = libc.syscall(NR["seccomp"], 1, flags, program)
    assert made >= 0, ctypes.get_errno()
    return made
"""
_GO = "\nos.execvp(sys.argv[1], sys.argv[1:])\n"

# What container engines refuse by default: namespaces, mounts, and clone3 because its flags lie in memory.
CONTAINER = _FRAME + "\ncontainer()\n" + _GO
# The same, where descriptors of other processes may not be fetched either.
STRICT_CONTAINER = _FRAME + '\ncontainer("pidfd_getfd")\n' + _GO
# A kernel without Landlock.
NO_LANDLOCK = _FRAME + '\ninstall(refuse("landlock", errno.ENOSYS))\n' + _GO
# Somebody else holds the one listener of this tree; it asks about nothing.
FOREIGN_SUPERVISOR = _FRAME + "\nos.set_inheritable(install([], 8), True)\n" + _GO
