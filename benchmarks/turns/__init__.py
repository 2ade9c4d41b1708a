"""How late the turns of an event loop are in a process under measurement, and what a soak makes of it."""
