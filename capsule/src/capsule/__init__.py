"""One command, or one Python tool call, under a policy, on the record."""
