"""Benchmarks: one file per question, peers measured in the same run, results as JSON and a table."""
