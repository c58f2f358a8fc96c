"""What a function uses and its source does not name: names in texts, docstrings, hints, source."""

import pytest

from eeipu import PipelineError
from eeipu.fingerprints.code import CodeReader, code_fingerprint, read_code

# Each reads a global or a function of the module by its name in a text.
TEXTS = {
    "a query": "LIMIT = {}\n\ndef f(df):\n    return df.query('a > @LIMIT')",
    "a query in a global": "LIMIT = {}\nQ = 'a > @LIMIT'\n\ndef f(df):\n    return df.query(Q)",
    "a query in a table": (
        "LIMIT = {}\nQS = {{'low': ['a > @LIMIT']}}\n\n"
        "def f(df, *, kind):\n    return df.query(QS[kind][0])"
    ),
    "a query that is put together": (
        "LIMIT = {}\n\ndef f(df, *, b):\n    q = 'a > @LIMIT'\n    if b:\n        q += ' & b > 1'\n"
        "    return df.query(q)"
    ),
    "a query with a formatted name": (
        "LIMIT = {}\n\ndef f(df, *, name):\n    return df.dropna().query(f'{{name}} > @LIMIT')"
    ),
    "a query in a loop": (
        "LIMIT = {}\n\ndef f(df):\n    return [df.query(q) for q in ('a > @LIMIT', 'b > 1')]"
    ),
    "a query in a lambda": (
        "LIMIT = {}\nselect = lambda df: df.query('a > @LIMIT')\n\n"
        "def f(df):\n    return df.pipe(select)"
    ),
    "an attribute in a query": (
        "class Limits:\n    low = {}\n\ndef f(df):\n    return df.query('a > @Limits.low')"
    ),
    "a query that is handed over": (
        "import functools\n\nLIMIT = {}\n\ndef f(df):\n"
        "    return functools.partial(df.query, 'a > @LIMIT')()"
    ),
    "a method found by its name": (
        "LIMIT = {}\n\ndef f(df):\n    return getattr(df, 'query')('a > @LIMIT')"
    ),
    "a name that is put together": (
        "LIMIT, NAME = {}, 'LIMIT'\n\ndef f(df):\n    return df.query('a > @' + NAME)"
    ),
    "a name that is formatted": (
        "LOW, HIGH = {}, 9\n\ndef f(df):\n"
        "    return [df.query(f'a > @{{name}}') for name in ('LOW', 'HIGH')]"
    ),
    "a name behind a percent sign": (
        "LIMIT, NAME = {}, 'LIMIT'\n\ndef f(df):\n    return df.query('a > @%s' % NAME)"
    ),
    "an evaluation": "LIMIT = {}\n\ndef f(df):\n    return df.eval('b = a * @LIMIT')",
    "an evaluation by pandas": (
        "from pandas import eval as evaluate\n\nLIMIT = {}\n\n"
        "def f(df):\n    return evaluate('df.a + LIMIT')"
    ),
    "a matrix of patsy": (
        "import patsy\n\ndef centre(x):\n    return x - {}\n\n"
        "def f(df):\n    return patsy.dmatrix('centre(x)', df)"
    ),
    "a formula": (
        "import statsmodels.formula.api as smf\n\ndef centre(x):\n    return x - {}\n\n"
        "def f(df):\n    return smf.ols('y ~ centre(x)', data=df).fit()"
    ),
    "a formula of a class": (
        "from statsmodels.api import OLS\n\ndef centre(x):\n    return x - {}\n\n"
        "def f(df):\n    return OLS.from_formula('y ~ centre(x)', data=df).fit()"
    ),
    "a formula with an import inside": (
        "def centre(x):\n    return x - {}\n\ndef f(df):\n"
        "    from statsmodels.formula.api import logit\n    return logit('y ~ centre(x)', df)"
    ),
    "a matrix of formulaic": (
        "from formulaic import model_matrix\n\ndef centre(x):\n    return x - {}\n\n"
        "def f(df):\n    return model_matrix('centre(x)', df)"
    ),
    "a table in SQL": (
        "import pandas\n\ntable = pandas.DataFrame({{'a': [{}]}})\n\n"
        "def f(connection):\n    return connection.sql('select * from table').df()"
    ),
}


@pytest.mark.parametrize("kind", TEXTS)
def test_a_global_that_is_named_in_a_text_counts(fingerprints, kind):
    one, again, other = fingerprints(TEXTS[kind], "1", "1", "2")
    assert one == again != other


@pytest.mark.parametrize(
    "source",
    [
        "import pandas\n\ndef f(df, *, q):\n    return df.query(q)",
        "import pandas\n\ndef f(df, *, q='a > 1'):\n    return df.eval(q)",
        "import pandas\n\ndef f(df):\n    return df.query('a > @LIMIT', level=1)",
        "import patsy\n\ndef f(df, *, formula):\n    return patsy.dmatrix(formula, df)",
        "import statsmodels.formula.api as smf\n\ndef f(df, *, how):\n    return smf.ols(how, df)",
        "import pandas\n\nclass A:\n    def m(self, df):\n        return df.query(self.q)\n\n"
        "def f(df):\n    return A().m(df)",
    ],
)
def test_a_text_that_is_not_written_in_the_source_asks_for_a_version(project, source):
    with pytest.raises(PipelineError, match=r"calls .* text that is not written.*version="):
        code_fingerprint(project(main=source).f)


@pytest.mark.parametrize(
    "source",
    [
        "import pandas\n\ndef f(tree, x):\n    return tree.query(x, k=3), tree.query(x[:, 0])",
        "import pandas\n\ndef f(model):\n    model.eval()\n    return model",
        "import pandas\n\ndef f(df, *, low):\n    return df.query(f'a > {low}')",
        "import pandas\n\ndef f(df, columns):\n    return df.query(' & '.join(columns))",
        "import pandas\n\ndef f(df, q):\n    return df.query(q, local_dict={}, global_dict={})",
        "import pandas\n\nclass Store:\n    def query(self, q):\n        return q\n\n"
        "store = Store()\n\ndef f(q):\n    return store.query(q)",
        "import patsy\n\ndef f(df, how, env):\n    return patsy.dmatrix(how, df, eval_env=env)",
    ],
)
def test_a_call_that_names_no_unknown_globals_is_no_obstacle(project, source):
    assert code_fingerprint(project(main=source).f)


def test_a_word_of_a_query_that_is_a_column_does_not_count(fingerprints):
    main = "def price(x):\n    return {}\n\ndef f(df):\n    return df.query('price > 3')"
    assert len(set(fingerprints(main, 1, 2))) == 1


DOCUMENTED = "def g(x):\n    '''{}'''\n    return x\n\n"
HINTED = "def g(x: {}):\n    return x\n\n"

READS = {
    "a docstring": (DOCUMENTED + "def f(data):\n    return g.__doc__", "one", "two"),
    "one's own docstring": ("def f(data):\n    '''{}'''\n    return f.__doc__", "one", "two"),
    "a docstring by a helper": (
        DOCUMENTED + "def h(q):\n    return q.__doc__\n\ndef f(data):\n    return h(g)",
        *("one", "two"),
    ),
    "a docstring by inspect": (
        "from inspect import getdoc as read\n\n" + DOCUMENTED + "def f(data):\n    return read(g)",
        *("one", "two"),
    ),
    "a docstring by a base class": (
        "class Base:\n    def __init_subclass__(cls):\n        cls.prompt = cls.__doc__\n\n"
        "class A(Base):\n    '''{}'''\n\ndef f(data):\n    return A.prompt",
        *("one", "two"),
    ),
    "a docstring by a decorator": (
        "def take(g):\n    text = g.__doc__\n    return lambda x: text + x\n\n@take\n"
        + DOCUMENTED
        + "def f(data):\n    return g(data)",
        *("one", "two"),
    ),
    "a docstring by pydantic": (
        "import pydantic\n\nclass A(pydantic.BaseModel):\n    '''{}'''\n\n"
        "def f(data):\n    return A.model_json_schema()",
        *("one", "two"),
    ),
    "hints": (
        "import typing\n\n" + HINTED + "def f(data):\n    return typing.get_type_hints(g)",
        *("int", "float"),
    ),
    "hints by a helper": (
        HINTED + "def h(q):\n    return q.__annotations__\n\ndef f(data):\n    return h(g)",
        *("int", "float"),
    ),
    "hints by a signature": (
        "import inspect\n\n" + HINTED + "def f(data):\n    return inspect.signature(g)",
        *("int", "float"),
    ),
    "hints by a validator": (
        "import pydantic\n\ncheck = pydantic.validate_call\n\n"
        + HINTED
        + "def f(data):\n    return check(g)(data)",
        *("int", "float"),
    ),
    "the hints of a hint": (
        "import typing\n\nclass M:\n    k: {} = 1\n\ndef g(x: M):\n    return x\n\n"
        "def f(data):\n    return typing.get_type_hints(g)",
        *("int", "float"),
    ),
    "a comment in source": (
        "import inspect\n\ndef g(x):\n    return x  # {}\n\n"
        "def f(data):\n    return inspect.getsource(g)",
        *("one", "two"),
    ),
}


@pytest.mark.parametrize("kind", READS)
def test_what_other_code_reads_of_the_source_counts(project, kind):
    template, *fillings = READS[kind]
    one, other = (code_fingerprint(project(main=template.format(x)).f) for x in fillings)
    again = code_fingerprint(project(main=template.format(fillings[0])).f)
    assert one == again != other


def test_a_second_reading_with_docstrings_is_still_the_first(project):
    main = project(main=DOCUMENTED + "K = [1]\n\ndef f(data):\n    return g.__doc__, K")
    before = read_code(main.f)
    assert CodeReader([before]).read(main.f, before) is before
    main.K.append(2)
    after = CodeReader([before]).read(main.f, before)
    assert before.fingerprint != after.fingerprint == code_fingerprint(main.f)


@pytest.mark.parametrize(
    "source",
    [
        "class Base:\n    def all(self):\n        return type(self).__subclasses__()\n\n"
        "def f(data):\n    return Base().all()",
        "class Base:\n    @classmethod\n    def all(cls):\n        return cls.__subclasses__()\n\n"
        "def f(data):\n    return Base.all()",
        "def g():\n    return 1\n\ndef f(data):\n    return getattr(g, '__globals__')['g']",
        "import sys\n\ndef f(data):\n    return sys._getframe().f_globals['K']",
        "import inspect\n\ndef f(data):\n    return inspect.getmodule(f).K",
    ],
)
def test_a_lookup_behind_an_expression_asks_for_a_version(project, source):
    with pytest.raises(PipelineError, match=r"finds code by a string.*version="):
        code_fingerprint(project(main=source).f)
