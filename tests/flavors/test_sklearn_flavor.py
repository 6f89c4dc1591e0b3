from __future__ import annotations

import json
import os
import zipfile
from collections.abc import Callable
from functools import partial
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import skops.io
from lightgbm import LGBMClassifier, LGBMRegressor
from sklearn.base import BaseEstimator, TransformerMixin
from sklearn.calibration import CalibratedClassifierCV
from sklearn.compose import ColumnTransformer, TransformedTargetRegressor
from sklearn.dummy import DummyClassifier
from sklearn.ensemble import (
    GradientBoostingClassifier,
    HistGradientBoostingClassifier,
    HistGradientBoostingRegressor,
    RandomForestClassifier,
    RandomForestRegressor,
    StackingClassifier,
    VotingClassifier,
)
from sklearn.feature_selection import SelectKBest, f_classif
from sklearn.gaussian_process import GaussianProcessRegressor
from sklearn.gaussian_process.kernels import RBF, WhiteKernel
from sklearn.impute import SimpleImputer
from sklearn.linear_model import LinearRegression, LogisticRegression, Ridge, SGDClassifier, TweedieRegressor
from sklearn.metrics import f1_score, make_scorer
from sklearn.model_selection import GridSearchCV, RandomizedSearchCV, TimeSeriesSplit
from sklearn.naive_bayes import GaussianNB
from sklearn.neighbors import KNeighborsClassifier
from sklearn.neural_network import MLPRegressor
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import (
    FunctionTransformer,
    KBinsDiscretizer,
    OneHotEncoder,
    OrdinalEncoder,
    QuantileTransformer,
    SplineTransformer,
    StandardScaler,
    TargetEncoder,
)
from sklearn.svm import SVC
from xgboost import XGBClassifier, XGBRegressor

from noria.errors import ModelError
from noria.flavors import flavor_for
from noria.flavors import sklearn as flavor


def prepared(model: Any, encoder: Any = None) -> Pipeline:
    """The model behind a preparation of the text and number columns."""
    columns = ColumnTransformer(
        [
            ("text", encoder or OneHotEncoder(handle_unknown="ignore"), ["kind"]),
            ("numbers", make_pipeline(SimpleImputer(strategy="median"), StandardScaler()), ["size", "age"]),
        ]
    )
    return make_pipeline(columns, model)


CLASSIFIERS: dict[str, Callable[[], Any]] = {
    "logistic": lambda: prepared(LogisticRegression()),
    "target encoder": lambda: prepared(LogisticRegression(), TargetEncoder(random_state=0)),
    "ordinal encoder": lambda: prepared(HistGradientBoostingClassifier(max_iter=5, random_state=0), OrdinalEncoder()),
    "forest": lambda: prepared(RandomForestClassifier(5, random_state=0)),
    "boosting": lambda: prepared(GradientBoostingClassifier(n_estimators=3)),
    "calibrated": lambda: prepared(CalibratedClassifierCV(GaussianNB(), cv=2), OrdinalEncoder()),
    "isotonic": lambda: prepared(CalibratedClassifierCV(LogisticRegression(), method="isotonic", cv=2)),
    "grid": lambda: GridSearchCV(prepared(LogisticRegression()), {"logisticregression__C": [0.1, 1.0]}, cv=2),
    "scored grid": lambda: GridSearchCV(
        prepared(SVC(probability=False)),
        {"svc__C": [0.1, 1.0]},
        cv=TimeSeriesSplit(2),
        scoring=make_scorer(f1_score, average="macro"),
    ),
    "stacking": lambda: StackingClassifier(
        [("a", prepared(LogisticRegression())), ("b", prepared(DummyClassifier()))], cv=2
    ),
    "voting": lambda: VotingClassifier([("a", prepared(LogisticRegression())), ("b", prepared(SGDClassifier()))]),
    "neighbours": lambda: prepared(KNeighborsClassifier(algorithm="kd_tree")),
    "selected": lambda: make_pipeline(prepared(SelectKBest(f_classif, k=2)), LogisticRegression()),
    "lightgbm": lambda: prepared(LGBMClassifier(n_estimators=3, verbose=-1, n_jobs=1)),
}
REGRESSORS: dict[str, Callable[[], Any]] = {
    "log1p": lambda: TransformedTargetRegressor(prepared(LinearRegression()), func=np.log1p, inverse_func=np.expm1),
    "log": lambda: TransformedTargetRegressor(
        prepared(RandomForestRegressor(5, random_state=0)), func=np.log, inverse_func=np.exp
    ),
    "quantiles": lambda: TransformedTargetRegressor(prepared(Ridge()), transformer=QuantileTransformer(n_quantiles=20)),
    "hist": lambda: prepared(HistGradientBoostingRegressor(max_iter=5, loss="poisson"), OrdinalEncoder()),
    "tweedie": lambda: prepared(TweedieRegressor(power=1.5)),
    "spline": lambda: prepared(make_pipeline(SplineTransformer(), Ridge()), OrdinalEncoder()),
    "bins": lambda: make_pipeline(
        ColumnTransformer([("b", KBinsDiscretizer(3, quantile_method="averaged_inverted_cdf"), ["size"])]),
        Ridge(),
    ),
    "process": lambda: prepared(GaussianProcessRegressor(RBF() + WhiteKernel()), OrdinalEncoder()),
    "network": lambda: prepared(MLPRegressor(hidden_layer_sizes=(4,), max_iter=5, random_state=0)),
    "function": lambda: make_pipeline(
        ColumnTransformer([("f", FunctionTransformer(np.log1p), ["size", "age"])]), LinearRegression()
    ),
    "partial": lambda: make_pipeline(
        ColumnTransformer([("f", FunctionTransformer(partial(np.clip, a_min=0, a_max=9)), ["size"])]), Ridge()
    ),
    "lightgbm": lambda: prepared(LGBMRegressor(n_estimators=3, verbose=-1, n_jobs=1), OrdinalEncoder()),
    "xgboost": lambda: prepared(XGBRegressor(n_estimators=3, n_jobs=1)),
}
QUIET = pytest.mark.filterwarnings("ignore::UserWarning", "ignore::sklearn.exceptions.ConvergenceWarning")


@QUIET
@pytest.mark.filterwarnings("ignore::FutureWarning")
@pytest.mark.parametrize("name", CLASSIFIERS)
@pytest.mark.parametrize("kind", ["text", "bool", "number"])
def test_a_classifier_comes_back_the_same(name: str, kind: str, x: Any, labels: Any) -> None:
    model = CLASSIFIERS[name]().fit(x, labels(kind))
    found, module = flavor_for(model)
    loaded = module.load(module.save(model))
    assert found == "sklearn"
    assert type(loaded.unwrap()) is type(model)
    assert loaded.classes == tuple(model.classes_.tolist())
    assert loaded.predict(x).tolist() == model.predict(x).tolist()
    shares = loaded.probabilities(x)
    if hasattr(model, "predict_proba"):
        assert shares is not None
        assert np.array_equal(shares, model.predict_proba(x))
    else:
        assert shares is None


@QUIET
@pytest.mark.parametrize("name", REGRESSORS)
def test_a_regressor_comes_back_the_same(name: str, x: Any, price: Any) -> None:
    model = REGRESSORS[name]().fit(x, price)
    loaded = flavor.load(flavor.save(model))
    assert np.array_equal(loaded.predict(x), model.predict(x))
    assert loaded.classes is None
    assert loaded.probabilities(x) is None


@QUIET
@pytest.mark.parametrize("classes", [2, 3])
def test_a_pipeline_of_xgboost_comes_back_the_same(x: Any, classes: int, labels: Any) -> None:
    model = prepared(XGBClassifier(n_estimators=3, n_jobs=1)).fit(x, labels("number", classes) - 5)
    loaded = flavor.load(flavor.save(model))
    assert loaded.classes == tuple(range(classes))
    assert np.array_equal(loaded.unwrap().predict_proba(x), model.predict_proba(x))


@QUIET
@pytest.mark.parametrize("make", [LGBMClassifier, XGBClassifier])
@pytest.mark.parametrize("early", [False, True])
def test_a_bare_wrapper_stays_the_wrapper_it_was(
    make: Any, early: bool, numbers: Any, labels: Callable[..., Any]
) -> None:
    y = labels("number") - 5
    options: dict[str, Any] = {"n_estimators": 8, "n_jobs": 1}
    if make is LGBMClassifier:
        options |= {"verbose": -1}
        y = y if early else labels("text")
    held: dict[str, Any] = {}
    if early:
        options |= {"early_stopping_rounds": 2}
        few, their = numbers[:40], y[:40]
        held = {"eval_X": few, "eval_y": their} if make is LGBMClassifier else {"eval_set": [(few, their)]}
    model = make(**options).fit(numbers, y, **held)
    found, module = flavor_for(model)
    loaded = module.load(module.save(model))
    assert found == "sklearn"
    assert type(loaded.unwrap()) is make
    assert loaded.unwrap().classes_.tolist() == model.classes_.tolist()
    assert loaded.unwrap().feature_importances_.tolist() == model.feature_importances_.tolist()
    assert np.array_equal(loaded.unwrap().predict_proba(numbers), model.predict_proba(numbers))
    assert loaded.predict(numbers).tolist() == model.predict(numbers).tolist()


@QUIET
@pytest.mark.parametrize("name", ["forest", "calibrated", "ordinal encoder", "lightgbm"])
def test_equal_models_give_equal_bytes(name: str, x: Any, labels: Any) -> None:
    first, second = (flavor.save(CLASSIFIERS[name]().fit(x, labels("text"))) for _ in range(2))
    assert first == second


def own_function(values: Any) -> Any:
    return values


class OwnTransformer(TransformerMixin, BaseEstimator):  # type: ignore[misc]  # scikit-learn has no types
    def fit(self, x: Any, y: Any = None) -> OwnTransformer:
        return self

    def transform(self, x: Any) -> Any:
        return x


@pytest.mark.parametrize(
    ("model", "named"),
    [
        (FunctionTransformer(own_function), "own_function"),
        (FunctionTransformer(lambda values: values), "<lambda>"),
        (make_pipeline(FunctionTransformer(own_function), OwnTransformer()), "OwnTransformer"),
        (OwnTransformer(), "OwnTransformer"),
        (FunctionTransformer(np.load), "numpy.load"),
        (FunctionTransformer(eval), "builtins.eval"),
        (FunctionTransformer(os.system), "system"),
        (FunctionTransformer("x".join), "join"),
    ],
)
def test_what_could_execute_is_refused_by_name(model: Any, named: str) -> None:
    with pytest.raises(ModelError) as raised:
        flavor.save(model)
    assert named in str(raised.value)
    assert "feature function" in str(raised.value)


def test_all_refused_types_are_named_at_once() -> None:
    with pytest.raises(ModelError, match=r"OwnTransformer, .*own_function"):
        flavor.save(make_pipeline(FunctionTransformer(own_function), OwnTransformer()))


def test_an_open_file_is_refused(tmp_path: Path) -> None:
    with (tmp_path / "log").open("w") as handle, pytest.raises(ModelError, match="open files"):
        flavor.save(FunctionTransformer(np.log1p, kw_args={"out": handle}))


@QUIET
def test_a_search_over_distributions_says_to_return_its_best_estimator(numbers: Any, price: Any) -> None:
    from scipy.stats import uniform

    search = RandomizedSearchCV(Ridge(), {"alpha": uniform(0, 1)}, n_iter=2, cv=2, random_state=0)
    search.fit(numbers, price)
    with pytest.raises(ModelError, match="best_estimator_"):
        flavor.save(search)


def forged(node: dict[str, Any]) -> bytes:
    """A skops file with one node put in place of a transformer's function."""
    data = skops.io.dumps(FunctionTransformer("PLACE"))
    with zipfile.ZipFile(BytesIO(data)) as given:
        schema = json.loads(given.read("schema.json"))
    schema["content"]["content"]["func"] = node
    written = BytesIO()
    with zipfile.ZipFile(written, "w") as result:
        result.writestr("schema.json", json.dumps(schema))
    return written.getvalue()


def call(module: str, name: str, *arguments: str) -> dict[str, Any]:
    """A node that calls what it names when it is loaded."""
    text = {"__class__": "str", "__module__": "builtins", "__loader__": "JsonNode", "is_json": True}
    items = [text | {"content": json.dumps(one)} for one in arguments]
    content = {"__class__": "tuple", "__module__": "builtins", "__loader__": "TupleNode", "content": items}
    return {
        "__class__": name,
        "__module__": module,
        "__loader__": "ConstructorFromReduceNode",
        "content": content,
    }


@pytest.mark.parametrize(
    "node",
    [
        call("os", "system", "touch mark"),
        call("builtins", "eval", "open('mark', 'w')"),
        call("numpy.testing", "runstring", "open('mark', 'w')", "{}"),
        call("numpy", "memmap", "mark", "uint8", "w+"),
        call("numpy", "save", "mark", "x"),
        call("sklearn.datasets._base", "os", "mark"),
        call("sklearn.utils.fixes", "parse_version", "1"),
        call("sklearn.utils._joblib", "dump", "x", "mark"),
        call("scipy.io", "savemat", "mark", "x"),
        call("scipy.stats._continuous_distns", "norm_gen"),
        call("lightgbm.basic", "Dataset", "mark"),
        call("xgboost.core", "DMatrix", "mark"),
        call("subprocess", "Popen", "touch mark"),
    ],
    ids=lambda node: f"{node['__module__']}.{node['__class__']}",
)
def test_a_forged_file_is_refused_before_it_runs(
    node: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ModelError, match="could run code"):
        flavor.load({"model.skops": forged(node)})
    assert list(tmp_path.iterdir()) == []


def test_a_forged_distribution_does_not_run_the_text_in_its_state(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    state = skops.io.dumps({"_parse_arg_template": "open('mark', 'w')", "_ctor_param": {}})
    with zipfile.ZipFile(BytesIO(state)) as given:
        content = json.loads(given.read("schema.json"))
    node = {
        "__class__": "norm_gen",
        "__module__": "scipy.stats._continuous_distns",
        "__loader__": "ObjectNode",
    }
    with pytest.raises(ModelError, match="norm_gen"):
        flavor.load({"model.skops": forged(node | {"content": content})})
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("data", [b"", b"nothing", b"PK\x05\x06" + bytes(18)])
def test_a_damaged_file_is_refused(data: bytes) -> None:
    with pytest.raises(ModelError, match="cannot be read"):
        flavor.load({"model.skops": data})


def test_a_missing_file_is_named() -> None:
    with pytest.raises(ModelError, match=r"no model\.skops; it has: other\.txt"):
        flavor.load({"other.txt": b""})


def test_a_file_of_something_else_than_an_estimator_is_refused() -> None:
    with pytest.raises(ModelError, match="holds a dict"):
        flavor.load({"model.skops": skops.io.dumps({"a": 1})})
