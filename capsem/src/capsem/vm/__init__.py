"""Machines as values: what is asked for, what is worked out, what may happen next. No I/O."""
