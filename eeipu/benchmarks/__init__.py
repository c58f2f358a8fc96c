"""Benchmark problems, and what it takes to compare methods on them."""
