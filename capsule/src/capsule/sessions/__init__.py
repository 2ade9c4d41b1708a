"""The session database: an index over logs, filled from their entries; never a second truth.

It refuses to hold what no log has: every row names the entry it comes from, and `rebuild --check` compares them.

    with Sessions.open(directory) as sessions:
        take_in(sessions, "capsule.log")
"""
