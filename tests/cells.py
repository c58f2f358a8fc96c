"""Code of a notebook, which has no file."""

import linecache
import os
import sys
import textwrap
from types import ModuleType


def cell(source, name="cell"):
    """What running a notebook's cell leaves: its names, in a module that has no file."""
    source = textwrap.dedent(source)
    file_name = f"<{name} of a notebook {os.urandom(4).hex()}>"
    linecache.cache[file_name] = (len(source), None, source.splitlines(keepends=True), file_name)
    module = ModuleType("notebook")
    sys.modules["notebook"] = module
    exec(compile(source, file_name, "exec"), vars(module))
    return module
