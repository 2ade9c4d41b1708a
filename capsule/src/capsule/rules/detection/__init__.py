"""Detection: Sigma rules over events, for findings as they happen and for queries over past sessions."""
