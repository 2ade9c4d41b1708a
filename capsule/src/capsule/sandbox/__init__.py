"""Policy → plan, and what comes back: plan, compiler, syscalls, access, explanations, Seatbelt, reports."""
