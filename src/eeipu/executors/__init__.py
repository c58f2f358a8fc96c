"""Where batches run: on a simulated cluster, or on any `concurrent.futures.Executor`."""
