"""What a definition uses and its source does not name: names in texts, docstrings, other code."""

import sys
from collections.abc import Iterable, Mapping
from types import FunctionType
from typing import Any

from eeipu.errors import PipelineError
from eeipu.fingerprints.reading.definitions import REMEDY, title_of
from eeipu.fingerprints.reading.name_resolution import Meaning
from eeipu.fingerprints.reading.references import LOOKUP_ATTRIBUTES, LOOKUPS, MISSING, finds_code
from eeipu.fingerprints.syntax.free_names import Names
from eeipu.fingerprints.syntax.sources import Detail
from eeipu.fingerprints.syntax.text_calls import METHODS, Reader, method_reader, reader_of, texts_in

__all__ = ["check_lookups", "detail_read", "names_in_texts"]

# Names under which code reads the docstrings and the type hints of other code.
_READS_DOCUMENTED = {
    *("__doc__", "__annotations__", "__annotate__", "__signature__", "get_type_hints"),
    *("get_annotations", "getdoc", "signature", "getfullargspec", "inspect_signature"),
    # Libraries that go by the hints or the docstring of a function that they are given.
    *("validate_call", "validate_arguments", "typechecked", "beartype", "Fire", "docopt"),
    *("from_function", "function_to_dict", "convert_to_openai_tool", "get_json_schema"),
}

# Names under which code reads the source of other code.
_READS_TEXT = {"getsource", "getsourcelines", "getcomments", "findsource"}


def check_lookups(code: Any, names: Names, found: Iterable[Meaning]) -> None:
    """Refuse a definition that looks up code by a string.

    Raises:
        PipelineError: It does.
    """
    looked_up = [".".join(each.chain) for each in found if _is_lookup(each)]
    for attribute in sorted((names.attributes | names.texts) & LOOKUP_ATTRIBUTES):
        written = sorted(".".join(each) for each in names.chains if attribute in each)
        looked_up += written or [attribute]
    if looked_up:
        raise PipelineError(
            f"{title_of(code)} uses {looked_up[0]}, which finds code by a string, so a change of "
            f"that code would go unseen; use an import statement or a plain name, or {REMEDY}"
        )


def _is_lookup(meaning: Meaning) -> bool:
    """Whether a name in a source finds other code by a string."""
    is_all = meaning.shown == ".".join(meaning.chain)
    return finds_code(meaning.value) or (meaning.value is sys and is_all) or meaning.path in LOOKUPS


def detail_read(names: Names, found: Iterable[Meaning]) -> Detail:
    """What of the source of other code a definition reads."""
    words = {*names.attributes, *names.texts, *(each.chain[0] for each in found)}
    words |= {attribute or module for _, module, attribute in names.imports}
    words |= {getattr(each.whole, "__name__", "") for each in found if _is_function(each.whole)}
    if words & _READS_TEXT:
        return Detail.TEXT
    return Detail.DOCUMENTED if words & _READS_DOCUMENTED else Detail.CODE


def _is_function(value: Any) -> bool:
    return type(value) is FunctionType


def names_in_texts(
    code: Any,
    names: Names,
    found: Iterable[Meaning],
    values: Iterable[Any],
    scope: Mapping[str, Any],
) -> set[tuple[str, ...]]:
    """The globals that are named in texts which libraries look up around a call.

    Args:
        code: The definition.
        names: The names in its source.
        found: What they refer to.
        values: The values that the definition uses, which may have texts in them.
        scope: The namespace of its module.

    Raises:
        PipelineError: A text is not written in the source and is in none of the values.
    """
    meanings = {each.chain: each for each in found}
    for callee, is_written in names.calls:
        reader = _reader(callee, meanings.get(callee), names)
        if reader is not None and not is_written and reader.is_loaded:
            raise PipelineError(
                f"{title_of(code)} calls {'.'.join(callee).lstrip('.')} with a text that is not "
                f"written in its source and may name globals, so a change of them would go "
                f"unseen; write the text there, hand over the values (pandas: global_dict, patsy: "
                f"eval_env, formulaic: context), or {REMEDY}"
            )
    # They need not be called by these names: `map(frame.query, texts)`.
    methods = (("", name) for name in (names.attributes | names.texts) & METHODS.keys())
    readers = {
        *filter(None, map(method_reader, methods)),
        *filter(None, (reader_of(_whole(each), each.path) for each in meanings.values())),
    }
    if not readers:
        return set()
    texts = {*names.texts, *(text for value in values for text in texts_in(value))}
    return {name for reader in readers for name in reader.mentioned(texts, scope)}


def _whole(meaning: Meaning) -> Any:
    return meaning.value if meaning.whole is MISSING else meaning.whole


def _reader(callee: tuple[str, ...], meaning: Meaning | None, names: Names) -> Reader | None:
    """What a call is, if it looks up names in a text."""
    if meaning is None:
        return None if callee in names.chains else method_reader(callee)
    reader = reader_of(_whole(meaning), meaning.path)
    if reader is None and not meaning.path:
        is_owner = meaning.shown == ".".join(callee[:-1])
        return method_reader(callee, meaning.value if is_owner else None)
    return reader
