"""A first search: three stages, tuned for twenty seconds. Put your own stages into it.

Run this script twice: the second run finds the budget spent, and nothing to do. Raise `budget`, and
it goes on from where it was.
"""

from sklearn.datasets import load_digits
from sklearn.decomposition import PCA
from sklearn.model_selection import cross_val_score
from sklearn.preprocessing import StandardScaler
from sklearn.svm import SVC

from eeipu import Categorical, Float, Int, Pipeline, StageCache, Tuner, stage


@stage(space={"scaling": Categorical([True, False])})
def prepare(data, *, scaling):
    """The first stage gets what `run` gets."""
    pictures, labels = data
    return StandardScaler().fit_transform(pictures) if scaling else pictures, labels


@stage(space={"components": Int(4, 60, log=True)})
def reduce(prepared, *, components):
    """Each later stage gets what the stage before it returned."""
    pictures, labels = prepared
    return PCA(components, random_state=0).fit_transform(pictures), labels


@stage(space={"penalty": Float(1e-2, 1e3, log=True), "gamma": Float(1e-5, 1e-1, log=True)})
def score(reduced, *, penalty, gamma):
    """The last stage returns the number to maximise."""
    features, labels = reduced
    return cross_val_score(SVC(C=penalty, gamma=gamma), features, labels, cv=3).mean()


if __name__ == "__main__":
    tuner = Tuner(
        Pipeline([prepare, reduce, score]),
        budget=20.0,  # seconds
        cache=StageCache("first-search-cache"),
        storage="sqlite:///first-search.db",
        study_name="first-search",
    )
    study = tuner.run(load_digits(return_X_y=True))
    print(f"best accuracy: {study.best_value:.4f} with {study.best_params}")
