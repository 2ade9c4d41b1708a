"""How a command reaches hosts: names, connections and requests, decided and recorded outside the sandbox.

`docs/formats/egress.md` is the interface. The daemon is `python -m capsule.egress`; it refuses to start without
the extra `capsule[egress]` and Python 3.12, because the protocol layers need both.
"""
