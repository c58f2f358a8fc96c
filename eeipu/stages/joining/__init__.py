"""How stages are joined.

`graph` (Graph) says whose output each gets, `alternatives` (OneOf, Optional) has places where one
of several stands, `layout` (Layout) has both together, and `drawing` shows it in a notebook.
"""
