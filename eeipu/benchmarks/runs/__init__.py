"""The room of benchmarks/runs."""
