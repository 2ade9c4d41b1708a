"""Every exception Capsem raises: who is at fault, what to do next, and the exit code.

They stand in Capsule's tree, so that one `except CapsuleError` catches what either of the two walls refuses.
What this module refuses: an error without a next step.

    raise QemuMissingError("no QEMU for x86_64 on this machine", next_step="sudo apt-get install -y qemu-system-x86")
"""

from __future__ import annotations

from capsule.errors import CapsuleError, Fault


class CapsemError(CapsuleError):
    """The root of this distribution's errors. Attributes as in `CapsuleError`."""


class UsageError(CapsemError):
    """The caller asked for something that makes no sense as a whole."""

    fault = Fault.CALLER
    exit_code = 2


class NotFoundError(CapsemError):
    """No machine, image or file of that name."""

    fault = Fault.CALLER
    exit_code = 1


class ConflictError(CapsemError):
    """The machine, image or name is in a state in which this cannot be done."""

    fault = Fault.CALLER
    exit_code = 1


class QemuMissingError(CapsemError):
    """This host has no QEMU for the machine that was asked for."""

    fault = Fault.HOST


class ImageError(CapsemError):
    """An image is missing, damaged, or not of the documented form."""

    fault = Fault.HOST


class RecipeError(ImageError):
    """A recipe of an image is not of the documented form."""

    fault = Fault.CALLER
    exit_code = 2


class MachineError(CapsemError):
    """A machine could not be started, or is gone."""

    fault = Fault.HOST


class ServiceError(CapsemError):
    """The service could not be started, or does not answer."""

    fault = Fault.HOST


class VersionError(ServiceError):
    """The service is of another version, and does not give way to ours, or ours to it."""


class NoRoomError(MachineError):
    """What was to happen cannot be recorded, because there is no room for the log; it was not done."""


class WireError(CapsemError):
    """A peer sent bytes that are not of the documented form; the stream is closed."""


class RefusedError(CapsemError):
    """A rule or a policy refused the act before it happened."""

    fault = Fault.POLICY
    exit_code = 126


class CommandTimeoutError(CapsemError, TimeoutError):
    """A command in a machine outlived its time and was killed."""

    fault = Fault.CALLER
    exit_code = 124


class NoSuchCommandError(CapsemError):
    """There is no such program in the machine."""

    fault = Fault.CALLER
    exit_code = 127


class NotExecutableError(CapsemError):
    """The program is there and cannot be executed, or not where it was asked for."""

    fault = Fault.CALLER
    exit_code = 126
