"""A table, and the comparison of converted pipelines with scikit-learn's own scores."""

import warnings

import numpy as np
import pandas as pd
from sklearn.base import clone
from sklearn.model_selection import cross_val_score

from eeipu.sklearn import from_pipeline

WORDS = np.array(["cheap", "good", "broken", "new", "slow", "fast", "great", "awful"])


def table(rows=90):
    rng = np.random.default_rng(0)
    return pd.DataFrame(
        {
            "text": [" ".join(rng.choice(WORDS, 6)) for _ in range(rows)],
            "city": rng.choice(["Bern", "Basel", "Chur"], rows),
            "age": np.where(rng.random(rows) < 0.1, np.nan, rng.normal(40, 9, rows)),
            "price": rng.lognormal(3, 1, rows),
        }
    ), (rng.random(rows) < 0.5).astype(int)


def configuration(search, values):
    """A configuration of the stages, of values by scikit-learn's names; and back."""
    keys = {each.name: key for key, each in search.hyper_parameters.items()}
    return {keys[name]: value for name, value in values.items()}


def configured(search, params):
    """The estimator with a configuration's hyper-parameters, as scikit-learn sets them."""
    estimator, values = clone(search.estimator), search.sklearn_params(params)
    for name in sorted(values, key=lambda name: name.count("__")):
        estimator.set_params(**{name: clone(values[name], safe=False)})
    return estimator


def agree(estimator, space, params, X, y=None, groups=None, cache=None, **options):
    """Check that a configuration's scores are those of scikit-learn, fold by fold.

    `params` has the names of the stages' hyper-parameters, or those of scikit-learn.
    """
    search = from_pipeline(estimator, space, **options)
    if not set(params) <= set(search.hyper_parameters):
        params = configuration(search, params)
    given = (X, y) if groups is None else (X, y, groups)
    run = search.pipeline.run(params, *given, cache=cache)
    assert run.error is None, run.error
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # what the stages warned of
        expected = cross_val_score(
            configured(search, params), X, y, groups=groups, error_score="raise", **options
        )
    found = [run.metrics[f"split{i}_test_score"] for i in range(len(expected))]
    assert found == expected.tolist()
    assert run.value == expected.mean()
    return search, run
