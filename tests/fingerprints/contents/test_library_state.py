"""What objects of libraries note down while they are used does not count."""

import copy
import pickle
import subprocess
import sys

import numpy as np
import pandas as pd
import pytest
import torch
from sklearn.feature_extraction.text import CountVectorizer, TfidfVectorizer
from sklearn.neighbors import KDTree, KNeighborsClassifier

from eeipu.fingerprints.keys import inputs_key
from eeipu.fingerprints.values import digest

DOCS = ["the cat sat", "a dog ran", "the dog sat down"]
X = np.random.default_rng(0).random((40, 4))
Y = (X[:, 0] > 0.5).astype(int)


def used(value, use):
    """A value before, and after it was used."""
    before = digest(value)
    use(value)
    return before, digest(value)


def is_the_same(value, use, make):
    before, after = used(value, use)
    return before == after == digest(make())


@pytest.mark.parametrize("kind", [CountVectorizer, TfidfVectorizer])
def test_fitted_vectorizers(kind):
    def make():
        return kind(stop_words="english").fit(DOCS)

    vectorizer = make()
    assert is_the_same(vectorizer, lambda v: v.transform(DOCS), make)
    assert digest(pickle.loads(pickle.dumps(vectorizer))) == digest(vectorizer)
    assert digest(kind().fit(DOCS)) != digest(vectorizer)


def test_neighbours():
    def make():
        return KNeighborsClassifier(algorithm="kd_tree").fit(X, Y)

    assert is_the_same(make(), lambda model: model.predict(X), make)
    assert digest(KDTree(X)) != digest(KDTree(2 * X))


def test_models_of_catboost():
    catboost = pytest.importorskip("catboost")

    def make(iterations=3):
        model = catboost.CatBoostClassifier(iterations, verbose=False, allow_writing_files=False)
        return model.fit(X, Y)

    model = make()
    assert is_the_same(model, lambda model: model.predict(X), make)
    assert digest(make(2)) != digest(model) == digest(pickle.loads(pickle.dumps(model)))


def test_results_of_statsmodels():
    api = pytest.importorskip("statsmodels.api")

    def make():
        return api.OLS(Y, X).fit()

    assert is_the_same(make(), lambda result: (result.summary(), result.bse), make)
    assert digest(api.OLS(Y, 2 * X).fit()) != digest(make())


def test_the_workers_that_a_data_loader_keeps():
    """They have come to stay with the first pass over the data, and cannot be pickled."""

    def make(batch_size=2):
        data = torch.utils.data.TensorDataset(torch.arange(4.0))
        return torch.utils.data.DataLoader(
            data, batch_size, num_workers=1, persistent_workers=True, generator=torch.Generator()
        )

    loader = make()
    before = digest(loader)
    loader._iterator = iter([])  # stands for the workers, whose start draws from the generator
    assert digest(loader) == before == digest(make()) != digest(make(1))


_COMPILING = """
import torch
from eeipu.fingerprints.keys import inputs_key

def make(size=2):
    torch.manual_seed(0)
    return torch.nn.Linear(2, size)

model = make()
key = inputs_key((model,))
torch.compile(model, backend="eager")(torch.zeros(1, 2))
assert inputs_key((model,)) == key == inputs_key((make(),))
compiled = [torch.compile(make(size), backend="eager") for size in (2, 2, 3)]
before = [inputs_key((each,)) for each in compiled]
compiled[0](torch.zeros(1, 2))
assert inputs_key((compiled[0],)) == before[0] == before[1] != before[2]
"""


def test_what_torch_compile_notes_on_a_model():
    # In a process of its own, where no other test draws random numbers or compiles.
    subprocess.run([sys.executable, "-c", _COMPILING], check=True, timeout=100)


def test_objects_that_count_by_what_they_do_in_code_do_so_in_inputs():
    """As they were made, and not as they have been used."""
    doubled = np.vectorize(lambda x: 2 * x)
    before = inputs_key(({"f": doubled},))
    doubled([1])
    assert inputs_key(({"f": doubled},)) == before
    assert inputs_key(({"f": np.vectorize(lambda x: 3 * x)},)) != before


def test_arrays_of_xarray():
    xarray = pytest.importorskip("xarray")

    def make():
        return xarray.DataArray(X, dims=("row", "column"), coords={"row": range(40)})

    array = make()
    assert is_the_same(array, lambda each: (repr(each), each.sel(row=1), each.attrs), make)
    assert digest(array[:, 1:]) == digest(array[:, 1:].copy(deep=True)) != digest(array)


def hook(*_):
    return None


def test_hooks_have_no_numbers_of_the_process():
    one, other = torch.nn.Linear(2, 2), torch.nn.Linear(2, 2)
    other.load_state_dict(one.state_dict())
    other.register_forward_hook(hook).remove()
    for model in (one, other):
        model.register_forward_hook(hook, with_kwargs=True)
        model.register_forward_pre_hook(hook)
    assert digest(one) == digest(other)
    other.register_forward_hook(hook)
    assert digest(one) != digest(other)


@pytest.fixture(scope="module")
def transformers():
    return pytest.importorskip("transformers")


def test_pretrained_models(transformers, tmp_path):
    config = transformers.GPT2Config(vocab_size=50, n_embd=16, n_layer=1, n_head=2)
    transformers.GPT2LMHeadModel(config).save_pretrained(tmp_path)
    one, other = (transformers.GPT2LMHeadModel.from_pretrained(tmp_path) for _ in range(2))
    assert digest(one) == digest(other) == digest(copy.deepcopy(one))
    one.generation_config._original_object_hash = 1  # a hash, another in each process
    assert digest(one) == digest(other)
    with torch.no_grad():
        other.lm_head.weight[0, 0] += 1.0
    assert digest(one) != digest(other)


def test_tokenizers(transformers):
    import tokenizers

    def make(words=("the", "cat")):
        vocabulary = {word: i for i, word in enumerate(["[UNK]", "[PAD]", *words])}
        inner = tokenizers.Tokenizer(tokenizers.models.WordLevel(vocabulary, unk_token="[UNK]"))
        inner.pre_tokenizer = tokenizers.pre_tokenizers.Whitespace()
        return transformers.PreTrainedTokenizerFast(
            tokenizer_object=inner, unk_token="[UNK]", pad_token="[PAD]"
        )

    def use(tokenizer):
        tokenizer(DOCS, padding=True, truncation=True, max_length=2)

    assert is_the_same(make(), use, make)
    assert digest(make(["dog"])) != digest(make())


def test_what_a_grouping_has_computed_does_not_count():
    def make():
        return pd.DataFrame({"a": [1, 1], "b": [1, 2]}).groupby("a")

    used = make()
    assert (used.sum().shape, len(used.groups)) == ((1, 1), 1)
    assert digest(used) == digest(make()) != digest(make().obj.groupby("b"))
