"""Values that scatter: what another observation of a configuration is worth, and which to believe.

`knowledge_gradient` has the worth, `repeats` the configurations that are worth another run, and
`recommendation` the configuration that the models believe to be best.
"""
