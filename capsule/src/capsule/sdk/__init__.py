"""The Python SDK: one command or one function call inside a sandbox, from any program."""
