"""The room of benchmarks/reports."""
