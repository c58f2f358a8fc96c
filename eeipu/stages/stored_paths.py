"""Paths as text, in which a plan keeps them."""

import json

from eeipu.errors import PipelineError
from eeipu.stages.paths import Call, Kind, Path, Stretch

__all__ = ["path_from_json", "path_to_json"]

# The types of values that JSON returns as they were written.
_AS_THEY_ARE = {str, int, float, bool, type(None)}


def path_to_json(path: Path) -> str:
    """Return a path as text, from which `path_from_json` makes a path with the same keys.

    Raises:
        PipelineError: A hyper-parameter is of a type that JSON does not have or changes, such as a
            tuple.
    """
    parts = [
        [c.stage, c.fingerprint, c.params, c.kind, s.stop, s.origin]
        for s in path.stretches
        for c in [s.call]
    ]
    try:
        for stretch in path.stretches:
            _check_stored(stretch.call)
        sources = [None if each is None else path_to_json(each) for each in path.sources]
        whole = [path.upstream, path.cuts, parts, *([sources] if sources else [])]
        return json.dumps(whole, separators=(",", ":"))
    except TypeError as error:
        raise PipelineError(
            f"the hyper-parameters of {path!r} cannot be stored ({error}); use numbers, "
            f"strings, bools or None as choices."
        ) from error


def path_from_json(text: str) -> Path:
    """Return the path that `path_to_json` wrote."""
    upstream, cuts, parts, *others = json.loads(text)
    start, stretches = 0, []
    for stage, fingerprint, params, kind, stop, origin in parts:
        call = Call(stage, fingerprint, params, Kind(kind))
        label = call.label("" if start else upstream)
        stretches.append(Stretch(call, start, stop, origin, label))
        start = stop
    sources = others[0] if others else ()
    joins = [None if each is None else path_from_json(each) for each in sources]
    return Path(upstream, stretches, cuts, joins)


def _check_stored(call: Call) -> None:
    """Check that a call has the same key after it was written as JSON and read again.

    Raises:
        TypeError: Its key would be another one, or it cannot be written.
    """
    others = {name: v for name, v in call.params.items() if type(v) not in _AS_THEY_ARE}
    if not others:  # as nearly always; keys take time to compute
        return
    read = Call(call.stage, call.fingerprint, json.loads(json.dumps(others)), call.kind)
    if read.label("") != Call(call.stage, call.fingerprint, others, call.kind).label(""):
        raise TypeError(f"{others!r} would come back as {dict(read.params)!r}")
