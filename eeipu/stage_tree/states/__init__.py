"""The states of a plan's nodes: which are there, who refers to them, and which may be dropped.

`node_states` counts which nodes have to run, `state_references` knows what may be dropped, and
`state_pins` protects the rest from other users of the cache.
"""
