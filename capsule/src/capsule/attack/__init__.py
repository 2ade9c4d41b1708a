"""Attacks against the user's own policy on the user's own machine, judged from the host alone."""
