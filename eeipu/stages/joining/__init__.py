"""How stages are joined.

`graph` (Graph) says whose output each gets, `alternatives` (OneOf, Optional) has places where one
of several stands, `layout` (Layout) has both together, `columns` (StageColumns) says which
hyper-parameters are whose, and `drawing` shows a layout in a notebook.
"""
