"""The audit log, read and checked: a second implementation of `docs/formats/audit-log.md` beside the native one.

It refuses to write: the log is appended by the native `capsule` only. Both agree on `tests/vectors/audit`.

    from capsule.audit.store import verify
    report = verify("capsule.log")
    print(report.outcome)          # verified
"""
