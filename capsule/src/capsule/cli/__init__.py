"""The Python side of the command line: verbs that read policies. `run` and its kin are native."""
