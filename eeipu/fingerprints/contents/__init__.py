"""What counts of a value: its content, in a form that is the same in every process.

Public is `stream` (`ContentStream`), which hashes a value by its pickle (`pickle_digests`), in
which something else stands for each object that is not `plain` data. `kinds` says by an object's
type what stands for it: `arrays`, `tables`, `arrow` and `torch_values` for data, `objects` for
everything that can only be pickled (with `library_state` for what libraries note down while they
are used), and `files` for paths.

What stands for an object is a tuple of its parts. The parts that are objects too are taken apart
in turn. Equal parts count alike whether or not they are one object, except those that are changed
by being used, such as the weights of a model (`shared`).
"""
