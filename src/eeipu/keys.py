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
import sys
import textwrap
from collections.abc import Callable, Iterable, Mapping
from types import FunctionType
from typing import Any

from joblib.hashing import Hasher, NumpyHasher

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
    text = json.dumps(content, default=_digest, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()


def inputs_key(inputs: tuple[Any, ...]) -> str:
    """The digest of a run's inputs, by content.

    Raises:
        PipelineError: An input cannot be hashed.
    """
    digests = []
    for position, value in enumerate(inputs):
        try:
            digests.append(_digest(value))
        except Exception as error:  # whatever pickle raises for the user's own types
            raise PipelineError(
                f"input {position} of the run, a {type(value).__name__}, cannot be hashed "
                f"({_reason(error)}), so outputs made from it could not be told from others; "
                f"pass what can be pickled, such as a path in place of an open file."
            ) from error
    return hashlib.sha256(json.dumps(digests).encode()).hexdigest()


def code_fingerprint(function: Callable[..., Any]) -> str:
    """A digest of what a function's source says, its defaults and its closure values.

    Comments, formatting, docstrings, type hints of the signature and decorators do not count.
    Functions that this one finds in its module do not count either: declare a `version` where
    they change.

    Raises:
        PipelineError: There is no source (a builtin, a C function, code typed at a bare prompt),
            or a default or closure value cannot be hashed.
    """
    return _fingerprint(function, ())


def _fingerprint(function: Callable[..., Any], outer: tuple[Callable[..., Any], ...]) -> str:
    """The fingerprint of a function found while `outer`, one in another, are fingerprinted."""
    name = getattr(function, "__qualname__", repr(function))
    remedy = 'name the code yourself with stage(version="1") and change it with the code.'
    try:
        tree = _bare(_parsed(function))
    except (OSError, TypeError, SyntaxError) as error:
        raise PipelineError(
            f"the source of {name} cannot be read ({error}), so a change of it would go unseen; "
            f"{remedy}"
        ) from error
    try:
        values = _digest(_captured(function), (*outer, function))
    except Exception as error:  # whatever pickle raises for the user's own types
        raise PipelineError(
            f"{name} has defaults or closure values that cannot be hashed ({_reason(error)}), so "
            f"a change of them would go unseen; {remedy}"
        ) from error
    return hashlib.sha256(f"{ast.dump(tree)}\n{values}".encode()).hexdigest()


def _parsed(function: Callable[..., Any]) -> ast.AST:
    """A function's definition, without the lines around it."""
    tree = ast.parse(textwrap.dedent(inspect.getsource(function)))
    if getattr(function, "__name__", "") != "<lambda>":
        return tree
    lambdas = [node for node in ast.walk(tree) if isinstance(node, ast.Lambda)]
    if len(lambdas) != 1:
        raise SyntaxError("its line has several lambdas")
    return lambdas[0]


def _captured(function: Callable[..., Any]) -> dict[str, Any]:
    """The values that a function carries with it besides its source."""
    has_closure = inspect.isfunction(function) or inspect.ismethod(function)
    parameters = inspect.signature(function).parameters.values()
    return {
        "closure": inspect.getclosurevars(function).nonlocals if has_closure else {},
        "defaults": {p.name: p.default for p in parameters if p.default is not p.empty},
        "self": getattr(function, "__self__", None),
    }


def _bare(tree: ast.AST) -> ast.AST:
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


class _ContentHasher(NumpyHasher):
    """joblib's hasher, extended to the kinds of value that it does not hash by content.

    Args:
        outer: The functions, one in another, whose captured values are being hashed.
    """

    def __init__(self, outer: tuple[Callable[..., Any], ...]) -> None:
        super().__init__(hash_name="sha1")
        self._outer = outer

    def save(self, obj: Any) -> None:
        """Write one value, or what stands for it, into the stream that is hashed."""
        torch = sys.modules.get("torch")  # without torch loaded there are no tensors
        if torch is not None and isinstance(obj, torch.Tensor) and _is_plain(obj):
            # Pickled tensors hold the address of their memory.
            obj = _tensor_content(obj)
        elif isinstance(obj, FunctionType) and "<" in obj.__qualname__:
            # Lambdas and functions inside functions have no name that pickle could look up.
            is_recursive = obj in self._outer
            code = self._outer.index(obj) if is_recursive else _fingerprint(obj, self._outer)
            obj = ("function", code)
        elif isinstance(obj, set | frozenset):
            # Not all elements have an order, and their hashes differ from process to process.
            obj = (type(obj), sorted(_digest(element, self._outer) for element in obj))
        super().save(obj)

    def _batch_setitems(self, items: Iterable[tuple[Any, Any]], *args: Any) -> None:
        # Keys as elements above. Moreover, joblib takes a TypeError from anywhere inside a value
        # for keys without an order, and then leaves out the value.
        items = list(items)
        if all(isinstance(key, str) for key, _ in items):
            items.sort(key=lambda item: item[0])
        else:
            items.sort(key=lambda item: _digest(item[0], self._outer))
        super(Hasher, self)._batch_setitems(iter(items), *args)


def _digest(value: Any, outer: tuple[Callable[..., Any], ...] = ()) -> str:
    """A digest of any value that can be pickled, by content."""
    digest: str = _ContentHasher(outer).hash(value)
    return digest


def _is_plain(tensor: Any) -> bool:
    """Whether a tensor is described by its bytes and shape."""
    return str(tensor.layout) == "torch.strided" and not tensor.is_quantized


def _tensor_content(tensor: Any) -> tuple[Any, ...]:
    values = tensor.detach().cpu().resolve_conj().resolve_neg().contiguous().reshape(-1)
    return (
        type(tensor),
        vars(tensor),
        str(tensor.dtype),
        tuple(tensor.shape),
        tensor.device.type,
        tensor.requires_grad,
        values.view(sys.modules["torch"].uint8).numpy(),
    )


def _reason(error: Exception) -> str:
    """The first thing that an error says; joblib appends the whole value to it."""
    return f"{type(error).__name__}: {next(iter(error.args), '')}"
