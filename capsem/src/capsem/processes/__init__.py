"""One folder a process; each declares itself in its `__init__` and runs from its `__main__`."""
