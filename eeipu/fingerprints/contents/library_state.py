"""What objects of libraries note down while they are used, and which does not change what they do.

Libraries are recognised by the names of their classes, so that none is imported.
"""

import json
from collections.abc import Callable
from functools import lru_cache
from pathlib import Path
from typing import Any

from eeipu.fingerprints.contents.torch_values import module_state
from eeipu.serialization.library_types import package_and_name

__all__ = ["kept_state"]

Keep = Callable[[Any, dict[str, Any]], dict[str, Any]]


def kept_state(obj: Any, state: Any) -> Any:
    """The part of an object's state that counts."""
    kind: Any = type(obj)
    for keep in _rules(kind):
        state = keep(obj, state)
    return state


def _without(*names: str) -> Keep:
    """A rule that leaves out attributes."""
    return lambda _, state: {name: each for name, each in state.items() if name not in names}


def _filled(*names: str) -> Keep:
    """A rule by which attributes that are filled when they are first asked for are empty dicts."""
    return lambda _, state: {
        name: {} if name in names and each is None else each for name, each in state.items()
    }


def _tree_state(tree: Any, state: Any) -> Any:
    """A tree of neighbours, without how often it was asked."""
    del tree
    is_known = isinstance(state, tuple) and len(state) > _COUNTS.stop
    return (*state[: _COUNTS.start], *state[_COUNTS.stop :]) if is_known else state


# `n_trims`, `n_leaves`, `n_splits` and `n_calls` among the parts of scikit-learn's trees.
_COUNTS = slice(7, 11)


def _catboost_state(model: Any, state: dict[str, Any]) -> dict[str, Any]:
    """A model, without the name and the time that every training gets anew."""
    if "__model" not in state:  # it has not been trained
        return state
    nameless = model.copy()
    for name in ("model_guid", "train_finish_time"):
        nameless.get_metadata()[name] = ""
    return {**state, "__model": nameless.__getstate__()["__model"]}


def _tokenizer_state(tokenizer: Any, state: dict[str, Any]) -> dict[str, Any]:
    """A fast tokenizer, without the padding and the truncation of its last call."""
    del tokenizer
    inner = json.loads(state["_tokenizer"].to_str()) if "_tokenizer" in state else {}
    return {**state, "_tokenizer": {**inner, "padding": None, "truncation": None}}


def _lightgbm_state(dataset: Any, state: dict[str, Any]) -> dict[str, Any]:
    """A data set that may be read from a file when it is first used."""
    del dataset
    data = state.get("data")
    return {**state, "data": Path(data)} if isinstance(data, str) else state


_RULES: dict[tuple[str, str], Keep] = {
    ("torch", "Module"): module_state,
    # The workers that stay, which begin anew with each pass over the data.
    ("torch", "DataLoader"): _without("_iterator", "_IterableDataset_len_called"),
    ("catboost", "_CatBoostBase"): _catboost_state,
    ("datasets", "Dataset"): _without("_fingerprint"),  # of what it was made from, not of its data
    ("lightgbm", "Dataset"): _lightgbm_state,
    ("xarray", "Variable"): _filled("_attrs", "_encoding"),
    ("xarray", "Dataset"): _filled("_attrs", "_encoding"),
    ("transformers", "GenerationConfig"): _without("_original_object_hash"),
    ("transformers", "PreTrainedModel"): _without("warnings_issued"),
    ("transformers", "PreTrainedTokenizerBase"): _without("deprecation_warnings"),
    ("transformers", "PreTrainedTokenizer"): _without("cache"),
    ("transformers", "PythonBackend"): _without("cache"),
    ("transformers", "PreTrainedTokenizerFast"): _tokenizer_state,
    ("transformers", "TokenizersBackend"): _tokenizer_state,
    # The address of the stop words that were checked last.
    ("sklearn", "_VectorizerMixin"): _without("_stop_words_id"),
    **{("sklearn", f"BinaryTree{bits}"): _tree_state for bits in (32, 64)},
    ("statsmodels", "ModelData"): _without("_cache"),
    ("statsmodels", "Results"): _without("_cache", "_summary_cache", "diagn", "_nobs_int"),
}


# Package -> the rule for all objects of its classes. Pandas keeps in `_cache` what it has computed.
_OF_PACKAGES: dict[str, Keep] = {"pandas": _without("_cache")}


@lru_cache(maxsize=1024)
def _rules(kind: Any) -> tuple[Keep, ...]:
    names = [package_and_name(each) for each in kind.__mro__]
    of_packages = {package: None for package, _ in names if package in _OF_PACKAGES}
    return (
        *(_RULES[name] for name in names if name in _RULES),
        *(_OF_PACKAGES[package] for package in of_packages),
    )
