"""Syntax: the source of a definition, as text that stands for it and as the names that it uses.

`sources` reads files, `free_names` finds the names, `text_calls` knows the calls of libraries that
look up further names in a text. Nothing here knows what a name refers to.
"""
