"""Benchmarks: one file per metric."""
