"""Benchmarks: each figure is a ratio to a floor that was measured in the same run (see README.md)."""
