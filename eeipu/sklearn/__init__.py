"""scikit-learn's pipelines as pipelines of eeipu, each step a stage.

>>> from eeipu import Float
>>> from eeipu.sklearn import from_pipeline
>>> from sklearn.datasets import load_iris
>>> from sklearn.linear_model import LogisticRegression
>>> from sklearn.pipeline import make_pipeline
>>> from sklearn.preprocessing import StandardScaler
>>> X, y = load_iris(return_X_y=True)
>>> steps = make_pipeline(StandardScaler(), LogisticRegression())
>>> search = from_pipeline(steps, {"logisticregression__C": Float(0.01, 100.0, log=True)}, cv=3)
>>> round(search.pipeline.run({"logisticregression.C": 1.0}, X, y).value, 3)
0.967
"""

from eeipu.errors import MissingExtraError

try:
    import sklearn as _  # noqa: F401 - here, for the whole room
except ImportError as error:
    raise MissingExtraError(
        f'eeipu.sklearn needs scikit-learn ({error}); pip install "eeipu[sklearn]"'
    ) from error

from eeipu.sklearn.conversion import PipelineSearch, from_pipeline

__all__ = ["PipelineSearch", "from_pipeline"]
