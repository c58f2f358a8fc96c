"""Several drivers of one study.

They choose one at a time (`driver_queue`), see that others live (`heartbeats`), and take over the
trials of those that do not (`dead_drivers`).
"""
