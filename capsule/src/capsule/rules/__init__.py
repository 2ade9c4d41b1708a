"""Rules: what decides during a run, within what the policy grants (docs/formats/rules.md, docs/formats/events.md)."""
