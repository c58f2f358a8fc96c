"""Training with PyTorch in steps that resumes after a checkpoint as if it had never stopped.

Public are `stage` (`torch_training`) and `loop` (`torch_loop`). Behind them, `state` holds a
training between two steps, `random_generators` saves and restores what is random in it, and
`object_graph` finds all objects that a training can reach.
"""
