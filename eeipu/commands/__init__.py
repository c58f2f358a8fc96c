"""The groups of commands of the command line, one module each; `eeipu.__main__` joins them.

Public: nothing; each module's `app` is a Typer application.
"""
