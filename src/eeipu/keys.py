"""Content keys: what makes two stage calls the same call.

A stage call is identified by its stage (name, and code fingerprint or declared version), its
hyper-parameters exactly as the study stores them, and the key of the call upstream; the first
stage's upstream key is the digest of the run's inputs. Keys are Merkle: a key stands for the
whole path that leads to an output.
"""

import ast
import hashlib
import inspect
import json
import textwrap
from collections.abc import Callable, Mapping
from typing import Any

import joblib

from eeipu.errors import PipelineError

__all__ = ["code_fingerprint", "inputs_key", "stage_key"]


def stage_key(name: str, fingerprint: str, params: Mapping[str, Any], upstream: str) -> str:
    """The key of a stage call.

    Args:
        name: The stage's name.
        fingerprint: Its code fingerprint, or the version that its author declared.
        params: Its hyper-parameters as stored, without the stage's name in front.
        upstream: The key of the call whose output it gets, or of the run's inputs.
    """
    content = [name, fingerprint, sorted(params.items()), upstream]
    # json writes floats in the shortest form that reads back as the same bits, and tells True
    # from 1 and 1 from 1.0; values it cannot write are choices of the user's own types.
    text = json.dumps(content, default=joblib.hash, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()


def inputs_key(inputs: tuple[Any, ...]) -> str:
    """The digest of a run's inputs, by content."""
    digest: str = joblib.hash(inputs, hash_name="sha1")
    return digest


def code_fingerprint(function: Callable[..., Any]) -> str:
    """A digest of what a function's source says, its defaults and its closure values.

    Comments, formatting, docstrings, type hints of the signature and decorators do not count.
    Functions that this one calls do not count either: declare a `version` where they change.

    Raises:
        PipelineError: There is no source (a builtin, a C function, code typed at a bare prompt),
            or a default or closure value cannot be hashed.
    """
    name = getattr(function, "__qualname__", repr(function))
    remedy = 'name the code yourself with stage(version="1") and change it with the code.'
    try:
        tree = ast.parse(textwrap.dedent(inspect.getsource(function)))
    except (OSError, TypeError, SyntaxError) as error:
        raise PipelineError(
            f"the source of {name} cannot be read, so a change of it would go unseen; {remedy}"
        ) from error
    closure = inspect.getclosurevars(function).nonlocals if inspect.isfunction(function) else {}
    defaults = {
        name: parameter.default
        for name, parameter in inspect.signature(function).parameters.items()
        if parameter.default is not parameter.empty
    }
    try:
        values = joblib.hash((sorted(closure.items()), sorted(defaults.items())), hash_name="sha1")
    except Exception as error:  # whatever pickle raises for the user's own values
        raise PipelineError(
            f"{name} has defaults or closure values that cannot be hashed ({error}), so a change "
            f"of them would go unseen; {remedy}"
        ) from error
    return hashlib.sha256(f"{ast.dump(_bare(tree))}\n{values}".encode()).hexdigest()


def _bare(tree: ast.Module) -> ast.Module:
    """The tree without the parts that cannot change a result."""
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            node.decorator_list = []
            if ast.get_docstring(node, clean=False) is not None:
                node.body = node.body[1:] or [ast.Pass()]
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            node.returns = None
        if isinstance(node, ast.arg):
            node.annotation = None
    return tree
