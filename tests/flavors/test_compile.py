"""Models of every kind as graphs: equal to the last digits, or not used."""

from __future__ import annotations

import re
import time
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import lightgbm
import msgspec
import numpy as np
import onnx
import onnxruntime
import polars as pl
import pytest
import xgboost
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper
from sklearn.base import clone
from sklearn.calibration import CalibratedClassifierCV
from sklearn.compose import TransformedTargetRegressor, make_column_transformer
from sklearn.datasets import load_breast_cancer, load_diabetes, load_wine
from sklearn.discriminant_analysis import LinearDiscriminantAnalysis
from sklearn.ensemble import (
    BaggingClassifier,
    ExtraTreesClassifier,
    ExtraTreesRegressor,
    GradientBoostingClassifier,
    GradientBoostingRegressor,
    HistGradientBoostingClassifier,
    HistGradientBoostingRegressor,
    RandomForestClassifier,
    RandomForestRegressor,
    StackingClassifier,
    VotingClassifier,
    VotingRegressor,
)
from sklearn.feature_selection import SelectKBest
from sklearn.impute import SimpleImputer
from sklearn.linear_model import LinearRegression, LogisticRegression, PoissonRegressor, RidgeClassifier
from sklearn.model_selection import FixedThresholdClassifier, GridSearchCV
from sklearn.naive_bayes import GaussianNB
from sklearn.neighbors import KNeighborsClassifier
from sklearn.neural_network import MLPClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import (
    MinMaxScaler,
    OneHotEncoder,
    OrdinalEncoder,
    PolynomialFeatures,
    RobustScaler,
    SplineTransformer,
    StandardScaler,
    TargetEncoder,
)
from sklearn.svm import LinearSVC
from sklearn.tree import DecisionTreeClassifier, DecisionTreeRegressor

from noria.flavors import Predictor, flavor_for
from noria.flavors import sklearn as of_sklearn
from noria.flavors.compile import compile_model, convert, work
from noria.flavors.compile.bitvectors import quickest
from noria.flavors.compile.convert import Subject
from noria.flavors.compile.divide import divide
from noria.flavors.compile.ensemble import EQUAL_OR_LESS, LESS, Ensemble, Tree
from noria.flavors.compile.graph import Graph
from noria.flavors.compile.opening import OpenGraph
from noria.flavors.compile.rows import as_feed, as_frame
from noria.loop.build import build
from noria.loop.load import load
from noria.records import MISSING_TEXT, BundleManifest, Compiled, Run
from noria.store import open_store

pytestmark = pytest.mark.filterwarnings(
    "ignore::DeprecationWarning", "ignore::FutureWarning", "ignore::UserWarning", "ignore::RuntimeWarning"
)

QUIET: dict[str, Any] = {"verbose": -1, "num_threads": 1}


class Compiles:
    """A model fitted, saved, loaded and compiled."""

    def __init__(self, model: Any, rows: pl.DataFrame, y: Any = None, frame: str = "polars", *, save: bool = True):
        if y is not None:
            model = clone(model).fit(as_frame(rows, frame), y)
        self.rows, self.frame = rows, frame
        self.flavor, module = flavor_for(model)
        files = module.save(model) if save else {}
        self.predictor: Predictor = module.load(files) if save else of_sklearn._Estimator(model)
        self.features = [(name, str(kind)) for name, kind in rows.schema.items()]
        self.source = files.get("model.onnx")
        self.blobs: dict[str, bytes] = {}
        self.compiled = self.compile()

    def compile(self) -> Compiled:
        return compile_model(
            self.flavor, self.predictor, self.features, self.frame, self.rows, put=self._put, source=self.source
        )

    def _put(self, data: bytes) -> str:
        digest = f"blob{len(self.blobs)}"
        self.blobs[digest] = data
        return digest

    @property
    def graph(self) -> bytes:
        assert self.compiled.graph is not None, self.compiled.reason
        return self.blobs[self.compiled.graph]

    def run(self, rows: pl.DataFrame) -> dict[str, NDArray[Any]]:
        session = onnxruntime.InferenceSession(self.graph)
        texts = [kind in (pl.String, pl.Categorical) for kind in rows.dtypes]
        names = [output.name for output in session.get_outputs()]
        feed = as_feed(rows, texts, matrix=self.compiled.matrix)
        found = dict(zip(names, session.run(names, feed), strict=True))
        if self.compiled.trees is not None:
            same_by_tables(self.graph, self.blobs[self.compiled.trees], feed["x"])
        return found


def same_by_tables(graph: bytes, trees: bytes, x: NDArray[np.float64]) -> None:
    """The trees by tables say what ONNX Runtime says, to the last bit, of these rows and of rows on the splits."""
    opened = OpenGraph(graph, trees)
    assert opened._tables is not None
    for rows in (x, np.tile(x, (3, 1)), opened._tables.vectors.samples(700, x.shape[1])):
        for one, other in zip(opened._whole({"x": rows}), opened._tables(rows), strict=True):
            assert one.dtype == other.dtype
            np.testing.assert_array_equal(one, other)


def table(loader: Callable[..., Any], *, gaps: bool = False) -> tuple[pl.DataFrame, NDArray[Any]]:
    found = loader()
    x = found.data.copy()
    if gaps:
        x[np.random.default_rng(0).random(x.shape) < 0.1] = np.nan
    rows = pl.DataFrame({f"f{place}": x[:, place] for place in range(x.shape[1])}).with_columns(pl.all().fill_nan(None))
    return rows, found.target


def people(rows: int = 600, *, gaps: bool = False) -> tuple[pl.DataFrame, NDArray[Any], NDArray[Any]]:
    draw = np.random.default_rng(0)
    size, age = draw.gamma(2, 3, rows), draw.integers(0, 90, rows)
    kind, flag = draw.choice(["a", "b", "ü d"], rows), draw.random(rows) < 0.3
    y = size + age / 20 + 3 * (kind == "a") + draw.normal(size=rows)
    frame = pl.DataFrame(
        {"size": size, "age": age, "flag": flag, "kind": kind, "the plan": draw.choice([*"pqrs"], rows)}
    )
    if gaps:
        holes = [
            pl.when(pl.Series(draw.random(rows) < 0.1)).then(None).otherwise(pl.col(n)).alias(n) for n in frame.columns
        ]
        frame = frame.with_columns(holes)
    return frame, y, np.where(y > y.mean(), "yes", "no")


TAKE_GAPS: list[Any] = [
    DecisionTreeClassifier(random_state=0),
    RandomForestClassifier(20, random_state=0),
    ExtraTreesClassifier(20, min_samples_leaf=3, random_state=0),
    HistGradientBoostingClassifier(max_iter=20),
    lightgbm.LGBMClassifier(n_estimators=20, verbose=-1),
    lightgbm.LGBMClassifier(n_estimators=20, verbose=-1, zero_as_missing=True),
    lightgbm.LGBMClassifier(n_estimators=20, verbose=-1, use_missing=False),
    xgboost.XGBClassifier(n_estimators=20),
]
TAKE_NONE: list[Any] = [
    GradientBoostingClassifier(n_estimators=20),
    LogisticRegression(),
    make_pipeline(StandardScaler(), LogisticRegression()),
    make_pipeline(StandardScaler(), PolynomialFeatures(2), LogisticRegression()),
    make_pipeline(SelectKBest(k=5), RobustScaler(), DecisionTreeClassifier(max_depth=3)),
    make_pipeline(StandardScaler(), MLPClassifier((8,), max_iter=20, random_state=0)),
    LinearSVC(),
    RidgeClassifier(),
    LinearDiscriminantAnalysis(),
    GaussianNB(),
    StackingClassifier([("a", RandomForestClassifier(5)), ("b", GaussianNB())]),
    VotingClassifier([("a", RandomForestClassifier(5)), ("b", GaussianNB())], voting="soft", weights=[2, 1]),
]


def name_of(model: Any) -> str:
    return re.sub(r"\W+", "-", str(model))[:60]


@pytest.mark.parametrize("loader", [load_breast_cancer, load_wine])
@pytest.mark.parametrize("gaps", [False, True])
@pytest.mark.parametrize("model", TAKE_GAPS, ids=name_of)
def test_classifiers_that_take_missing_values(model: Any, gaps: bool, loader: Callable[..., Any]) -> None:
    rows, y = table(loader, gaps=gaps)
    found = Compiles(model, rows, y)
    compiled = found.compiled
    assert compiled.graph is not None, compiled.reason
    assert compiled.matrix
    assert compiled.rows == rows.height
    assert compiled.nulls == tuple(rows.columns)
    assert compiled.largest is not None
    assert compiled.largest < (1e-6 if "XGB" in str(model) else 1e-14)
    assert found.run(rows)["probabilities"].dtype == np.float64
    assert list(found.run(rows)) == ["probabilities"]


@pytest.mark.parametrize("loader", [load_breast_cancer, load_wine])
@pytest.mark.parametrize("model", TAKE_NONE, ids=name_of)
def test_classifiers_that_take_no_missing_values_have_them_refused(model: Any, loader: Callable[..., Any]) -> None:
    rows, y = table(loader)
    compiled = Compiles(model, rows, y).compiled
    assert compiled.graph is not None, compiled.reason
    assert compiled.nulls == ()


REGRESSIONS: list[Any] = [
    DecisionTreeRegressor(random_state=0),
    RandomForestRegressor(20, random_state=0),
    ExtraTreesRegressor(20, random_state=0),
    HistGradientBoostingRegressor(max_iter=20),
    HistGradientBoostingRegressor(max_iter=20, loss="poisson"),
    HistGradientBoostingRegressor(max_iter=20, loss="gamma"),
    *(
        lightgbm.LGBMRegressor(n_estimators=20, verbose=-1, objective=objective)
        for objective in ("l2", "l1", "poisson", "tweedie", "gamma", "huber", "quantile", "mape")
    ),
    lightgbm.LGBMRegressor(n_estimators=20, verbose=-1, reg_sqrt=True),
    lightgbm.LGBMRegressor(n_estimators=20, verbose=-1, boosting_type="rf", bagging_freq=1, bagging_fraction=0.5),
    *(
        xgboost.XGBRegressor(n_estimators=20, objective=objective)
        for objective in ("reg:squarederror", "count:poisson", "reg:tweedie", "reg:gamma", "reg:absoluteerror")
    ),
    xgboost.XGBRegressor(n_estimators=20, booster="dart", rate_drop=0.3),
    xgboost.XGBRFRegressor(n_estimators=20),
    make_pipeline(SimpleImputer(add_indicator=True), StandardScaler(), LinearRegression()),
    make_pipeline(MinMaxScaler(), RandomForestRegressor(5, random_state=0)),
]


@pytest.mark.parametrize("gaps", [False, True])
@pytest.mark.parametrize("model", REGRESSIONS, ids=name_of)
def test_regressions_that_take_missing_values(model: Any, gaps: bool) -> None:
    rows, y = table(load_diabetes, gaps=gaps)
    found = Compiles(model, rows, y)
    compiled = found.compiled
    assert compiled.graph is not None, compiled.reason
    assert compiled.nulls == tuple(rows.columns)
    assert compiled.largest is not None
    assert compiled.largest < (1e-5 if "XGB" in str(model) else 1e-13)
    assert found.run(rows)["prediction"].shape == (rows.height,)


@pytest.mark.parametrize(
    "model",
    [
        GradientBoostingRegressor(n_estimators=20),
        GradientBoostingRegressor(n_estimators=20, loss="huber"),
        LinearRegression(),
        PoissonRegressor(),
        VotingRegressor([("a", LinearRegression()), ("b", RandomForestRegressor(5))]),
        TransformedTargetRegressor(HistGradientBoostingRegressor(max_iter=5), func=np.log, inverse_func=np.exp),
        TransformedTargetRegressor(LinearRegression(), transformer=StandardScaler()),
    ],
    ids=name_of,
)
def test_other_regressions(model: Any) -> None:
    rows, y = table(load_diabetes)
    compiled = Compiles(model, rows, y, "ndarray").compiled
    assert compiled.graph is not None, compiled.reason


@pytest.mark.parametrize(
    "model",
    [
        GradientBoostingClassifier(n_estimators=10, loss="exponential"),
        BaggingClassifier(n_estimators=5, max_features=0.5),
        CalibratedClassifierCV(RandomForestClassifier(5)),
        GridSearchCV(DecisionTreeClassifier(), {"max_depth": [2, 3]}),
        FixedThresholdClassifier(LogisticRegression(), threshold=0.9),
    ],
    ids=name_of,
)
def test_classifiers_of_two_classes(model: Any) -> None:
    rows, y = table(load_breast_cancer)
    found = Compiles(model, rows, y)
    assert found.compiled.graph is not None, found.compiled.reason
    own_label = isinstance(model, FixedThresholdClassifier)
    assert ("prediction" in found.run(rows)) == own_label


TEXTS = ["kind", "the plan"]
ENCODERS: list[Any] = [
    OneHotEncoder(),
    OneHotEncoder(handle_unknown="ignore"),
    OneHotEncoder(handle_unknown="infrequent_if_exist", min_frequency=0.3, drop="first"),
    OrdinalEncoder(),
    OrdinalEncoder(handle_unknown="use_encoded_value", unknown_value=-1),
    TargetEncoder(),
]


@pytest.mark.parametrize("gaps", [False, True])
@pytest.mark.parametrize("frame", ["polars", "pandas"])
@pytest.mark.parametrize("encoder", ENCODERS, ids=name_of)
def test_texts_through_encoders(encoder: Any, frame: str, gaps: bool) -> None:
    rows, _, y = people(gaps=gaps)
    encode = make_column_transformer((encoder, TEXTS), remainder="passthrough")
    found = Compiles(make_pipeline(encode, HistGradientBoostingClassifier(max_iter=10)), rows, y, frame)
    compiled = found.compiled
    assert compiled.graph is not None, compiled.reason
    assert not compiled.matrix
    forgiving = gaps or getattr(encoder, "handle_unknown", "ignore") != "error"
    assert set(compiled.nulls) == {"size", "age", "flag", *(TEXTS if forgiving else ())}


def test_a_text_that_the_model_refuses_comes_back_as_nothing() -> None:
    rows, y, _ = people()
    encode = make_column_transformer((OneHotEncoder(), TEXTS), remainder="passthrough")
    found = Compiles(make_pipeline(encode, HistGradientBoostingRegressor(max_iter=5)), rows, y)
    odd = rows[:3].with_columns(pl.Series("kind", ["a", "new", None]))
    assert np.isnan(found.run(odd)["prediction"]).tolist() == [False, True, True]
    labels = Compiles(make_pipeline(encode, LinearSVC()), rows, people()[2])
    assert labels.run(rows[:3])["prediction"].tolist() == labels.predictor.predict(rows[:3]).tolist()
    with pytest.raises(Exception, match="out of data bounds"):
        labels.run(odd)


@pytest.mark.parametrize("frame", ["polars", "pandas"])
def test_categories_that_histogram_boosting_knows_itself(frame: str) -> None:
    rows, y, _ = people(gaps=True)
    rows = rows.with_columns(pl.col(TEXTS).cast(pl.Categorical))
    compiled = Compiles(HistGradientBoostingRegressor(max_iter=20), rows, y, frame, save=False).compiled
    assert compiled.graph is not None, compiled.reason
    assert set(TEXTS) <= set(compiled.nulls)


def test_categories_that_lightgbm_knows_itself() -> None:
    rows, y, _ = people()
    rows = rows.with_columns(pl.col(TEXTS).cast(pl.Categorical))
    model = lightgbm.LGBMRegressor(**QUIET, n_estimators=10, min_data_per_group=1, max_cat_to_onehot=2)
    compiled = Compiles(model, rows, y, "pandas").compiled
    assert compiled.graph is not None, compiled.reason
    assert not compiled.matrix
    codes = rows.with_columns(pl.col(TEXTS).to_physical())
    options = {**QUIET, "objective": "binary", "min_data_per_group": 1, "max_cat_to_onehot": 2}
    data = lightgbm.Dataset(codes.to_numpy(), y > y.mean(), categorical_feature=[3, 4])
    numbers = Compiles(lightgbm.train(options, data, 10), codes, frame="ndarray").compiled
    assert numbers.graph is not None, numbers.reason
    assert numbers.matrix


def test_whole_numbers_that_lightgbm_rounds() -> None:
    draw = np.random.default_rng(0)
    big = draw.integers(2**24, 2**24 + 40, 400)
    rows, y = pl.DataFrame({"big": big, "other": draw.integers(0, 9, 400)}), (big % 7).astype(float)
    for frame in ("ndarray", "polars", "pandas"):
        compiled = Compiles(lightgbm.LGBMRegressor(**QUIET, n_estimators=20), rows, y, frame).compiled
        assert compiled.graph is not None, compiled.reason
    booster = lightgbm.train(QUIET, lightgbm.Dataset(rows.to_numpy(), y), 20)
    for frame in ("ndarray", "polars", "pandas"):
        compiled = Compiles(booster, rows, frame=frame).compiled
        assert compiled.graph is not None, compiled.reason


@pytest.mark.parametrize(
    ("objective", "options"),
    [
        ("binary", {}),
        ("multiclass", {"num_class": 3}),
        ("multiclassova", {"num_class": 3, "sigmoid": 0.7}),
        ("cross_entropy", {}),
        ("regression", {}),
    ],
)
def test_lightgbm_boosters(objective: str, options: dict[str, Any]) -> None:
    rows, y = table(load_wine, gaps=True)
    label = (y > 0).astype(int) if objective in ("binary", "cross_entropy") else y
    booster = lightgbm.train(QUIET | {"objective": objective} | options, lightgbm.Dataset(rows.to_numpy(), label), 10)
    compiled = Compiles(booster, rows, frame="ndarray").compiled
    assert compiled.graph is not None, compiled.reason


@pytest.mark.parametrize(
    ("objective", "options"),
    [
        ("binary:logistic", {}),
        ("binary:logitraw", {}),
        ("binary:hinge", {}),
        ("reg:logistic", {}),
        ("multi:softprob", {"num_class": 3}),
        ("multi:softmax", {"num_class": 3}),
    ],
)
def test_xgboost_boosters(objective: str, options: dict[str, Any]) -> None:
    rows, y = table(load_wine, gaps=True)
    label = y if options else (y > 0).astype(int)
    data = xgboost.DMatrix(rows.to_numpy(), label)
    booster = xgboost.train({"objective": objective, "nthread": 1} | options, data, 10)
    compiled = Compiles(booster, rows, frame="ndarray").compiled
    assert compiled.graph is not None, compiled.reason


def test_early_stopping_ends_the_trees_where_the_model_does() -> None:
    rows, y = table(load_breast_cancer)
    x = rows.to_numpy()
    light = lightgbm.LGBMClassifier(**QUIET, n_estimators=200)
    light.fit(x[:400], y[:400], eval_X=x[400:], eval_y=y[400:], callbacks=[lightgbm.early_stopping(3, verbose=False)])
    extreme = xgboost.XGBClassifier(n_estimators=200, early_stopping_rounds=3)
    extreme.fit(x[:400], y[:400], eval_set=[(x[400:], y[400:])], verbose=False)
    for model in (light, extreme):
        compiled = Compiles(model, rows, frame="ndarray").compiled
        assert compiled.graph is not None, compiled.reason


@pytest.mark.parametrize("text", [False, True])
def test_a_feature_of_float32_is_rounded_as_a_request_is(text: bool) -> None:
    rows, y, _ = people()
    rows = rows.select(pl.col("size").cast(pl.Float32), "age", *(["kind"] if text else []))
    encode = make_column_transformer((OrdinalEncoder(), ["kind"] if text else []), remainder="passthrough")
    found = Compiles(make_pipeline(encode, HistGradientBoostingRegressor(max_iter=30)), rows, y)
    near = rows["size"].cast(pl.Float64) * (1 + 1e-9)
    made = found.run(rows.with_columns(size=near))["prediction"]
    assert found.compiled.matrix != text
    assert made.tolist() == found.run(rows)["prediction"].tolist()


@pytest.mark.parametrize("labels", [[False, True], ["no", "yes"], [3, 7], [0.5, 1.5]], ids=str)
@pytest.mark.parametrize("model", [DecisionTreeClassifier(max_depth=3), LinearSVC()], ids=name_of)
def test_labels_come_back_as_they_were(model: Any, labels: list[Any]) -> None:
    rows, y = table(load_breast_cancer)
    if isinstance(labels[0], float):
        labels = [0.0, 1.0]  # scikit-learn takes no others for labels
    found = Compiles(model, rows, np.array(labels)[y])
    made = found.run(rows)
    expected = found.predictor.predict(rows).tolist()
    if "prediction" in made:
        assert made["prediction"].tolist() == expected
        assert {type(one) for one in made["prediction"].tolist()} == {type(labels[0])}
    else:
        assert [labels[place] for place in made["probabilities"].argmax(axis=1)] == expected


def test_models_that_are_onnx_already() -> None:
    rows, _ = table(load_diabetes)
    weights = numpy_helper.from_array(np.arange(10, dtype=np.float32).reshape(-1, 1), "w")
    info = helper.make_tensor_value_info
    graph = helper.make_graph(
        [helper.make_node("MatMul", ["rows", "w"], ["y"])],
        "g",
        [info("rows", TensorProto.FLOAT, [None, 10])],
        [info("y", TensorProto.FLOAT, [None, 1])],
        [weights],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    found = Compiles(model, rows, frame="ndarray")
    assert found.compiled.graph is not None, found.compiled.reason
    assert found.run(rows)["prediction"].shape == (rows.height,)


@pytest.mark.parametrize(
    ("model", "reason"),
    [
        (make_pipeline(SplineTransformer(), LinearRegression()), "skl2onnx has no converter for SplineTransformer"),
        (KNeighborsClassifier(), "KNeighborsClassifier looks through the training rows"),
        (lightgbm.LGBMRegressor(n_estimators=5, verbose=-1, linear_tree=True), "its leaves hold linear models"),
        (xgboost.XGBRegressor(n_estimators=5, booster="gblinear"), "it is a linear booster"),
        (GradientBoostingRegressor(init=LinearRegression()), "it starts from an estimator of its own"),
    ],
    ids=name_of,
)
def test_what_cannot_be_compiled_says_why(model: Any, reason: str) -> None:
    rows, y = table(load_diabetes)
    compiled = Compiles(model, rows, y).compiled
    assert compiled.graph is None
    assert compiled.reason.startswith(f"not compiled: {reason}")
    assert compiled.sentence.startswith("Not compiled: ")


def test_a_feature_that_is_a_time_is_named() -> None:
    rows = pl.DataFrame({"a": [1.0, 2.0] * 9, "at": [datetime(2020, 1, 1)] * 18})
    found = compile_model(
        "sklearn",
        of_sklearn._Estimator(LinearRegression().fit([[1.0], [2.0]], [1, 2])),
        [("a", "Float64"), ("at", "Datetime(time_unit='us', time_zone=None)")],
        "pandas",
        rows,
        put=lambda _: "",
    )
    assert found.reason == "not compiled: the feature 'at' is a Datetime"


def test_a_graph_that_differs_is_not_used(monkeypatch: pytest.MonkeyPatch) -> None:
    rows, y = table(load_diabetes)
    model = HistGradientBoostingRegressor(max_iter=20).fit(rows, y)
    right = Ensemble.into

    def wrong(self: Ensemble, graph: Graph, x: str) -> str:
        return graph.add("Mul", right(self, graph, x), 1 + 1e-8)

    monkeypatch.setattr(Ensemble, "into", wrong)
    compiled = Compiles(model, rows).compiled
    assert compiled.graph is None
    assert re.match(
        r"not used: the graph differs by \d\.\de-0\d on real rows \(8 of 8 such\); 1e-09 is", compiled.reason
    )


def test_a_graph_that_differs_only_where_a_value_is_missing_is_not_used(monkeypatch: pytest.MonkeyPatch) -> None:
    rows, y = table(load_diabetes)
    model = HistGradientBoostingRegressor(max_iter=20).fit(rows, y)
    right = Ensemble.add

    def wrong(self: Ensemble, tree: Tree, output: int = 0) -> None:
        tree.missing_left = ~tree.missing_left
        right(self, tree, output)

    monkeypatch.setattr(Ensemble, "add", wrong)
    compiled = Compiles(model, rows).compiled
    assert compiled.graph is None
    assert "with a value missing" in compiled.reason


def test_a_fault_in_compiling_is_a_reason_not_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    rows, y = table(load_diabetes)

    def fail(*_: Any, **__: Any) -> bytes:
        raise RuntimeError("on purpose")

    monkeypatch.setattr(work, "convert", fail)
    assert Compiles(LinearRegression(), rows, y).compiled.reason == "not compiled: RuntimeError: on purpose"


def test_numbers_too_large_for_float32_are_refused_as_forests_do() -> None:
    rows, y = table(load_diabetes)
    found = Compiles(RandomForestRegressor(5), rows, y)
    odd = rows[:3].with_columns(f3=pl.Series([1.0, 1e39, -1e300]))
    assert np.isnan(found.run(odd)["prediction"]).tolist() == [False, True, True]
    boosted = Compiles(HistGradientBoostingRegressor(max_iter=5), rows, y)
    assert np.allclose(boosted.run(odd)["prediction"], boosted.predictor.predict(odd), rtol=1e-14)


# Trees made at random, and values exactly on their thresholds.

NUMBERS = st.one_of(
    st.sampled_from([0.0, -0.0, 1.0, 1e-35, -1e-35, 1e30, -1e30, 0.1, float(np.float32(0.1)), float("nan")]),
    st.floats(allow_nan=False, allow_infinity=False),
)


@st.composite
def trees(draw: st.DrawFn) -> Tree:
    inner = draw(st.integers(0, 7))
    left, right = np.full(2 * inner + 1, -1), np.full(2 * inner + 1, -1)
    leaves = [0]
    for made in range(inner):  # any leaf may become a node
        place = leaves.pop(draw(st.integers(0, len(leaves) - 1)))
        left[place], right[place] = 2 * made + 1, 2 * made + 2
        leaves += [2 * made + 1, 2 * made + 2]
    size = 2 * inner + 1
    finite = NUMBERS.filter(lambda number: number == number)
    members = {
        place: [float(one) for one in draw(st.sets(st.integers(0, 70)))]
        for place in range(size)
        if left[place] >= 0 and draw(st.integers(0, 3)) == 0
    }
    return Tree(
        feature=np.array(draw(st.lists(st.integers(0, 2), min_size=size, max_size=size))),
        split=np.array(draw(st.lists(finite, min_size=size, max_size=size))),
        left=left,
        right=right,
        missing_left=np.array(draw(st.lists(st.booleans(), min_size=size, max_size=size))),
        value=np.array(draw(st.lists(st.integers(-1000, 1000).map(float), min_size=size, max_size=size))),
        mode=draw(st.sampled_from([EQUAL_OR_LESS, LESS])),
        members=members,
    )


def walk(tree: Tree, row: NDArray[np.float64]) -> float:
    place = 0
    while tree.left[place] >= 0:
        value = row[tree.feature[place]]
        if np.isnan(value):
            goes = tree.missing_left[place]
        elif place in tree.members:
            goes = value in tree.members[place]
        else:
            goes = value <= tree.split[place] if tree.mode == EQUAL_OR_LESS else value < tree.split[place]
        place = int(tree.left[place] if goes else tree.right[place])
    return float(tree.value[place])


@settings(max_examples=300, deadline=None)
@given(st.lists(trees(), min_size=1, max_size=4), st.data())
def test_any_tree_is_walked_as_it_is_drawn(forest: list[Tree], data: st.DataObject) -> None:
    splits = [float(split) for tree in forest for split in tree.split]
    near = [float(np.nextafter(split, way)) for split in splits for way in (-np.inf, np.inf)]
    members = [float(one) for tree in forest for held in tree.members.values() for one in held]
    value = st.one_of(NUMBERS, st.sampled_from([one for one in (*splits, *near, *members) if np.isfinite(one)]))
    x = np.array(data.draw(st.lists(st.tuples(value, value, value), min_size=1, max_size=20)))
    sorted_out = {int(tree.feature[place]) for tree in forest for place in tree.members}
    x[:, list(sorted_out)] = np.trunc(x[:, list(sorted_out)])
    ensemble, graph = Ensemble(2), Graph()
    for place, tree in enumerate(forest):
        ensemble.add(tree, place % 2)
    table = graph.take_matrix(["a", "b", "c"])
    sums = ensemble.into(graph, graph.matrix(table))
    made = graph.finish({"y": (sums, TensorProto.DOUBLE, [None, 2])})
    session = onnxruntime.InferenceSession(made)
    expected = [[sum(walk(tree, row) for tree in forest[place::2]) for place in (0, 1)] for row in x]
    assert session.run(None, {"x": x})[0].tolist() == expected
    parts = divide(made)
    kinds = {tree.mode for tree in forest if tree.left[0] >= 0}
    plain = not any(tree.members for tree in forest if tree.left[0] >= 0)
    assert (parts is not None) == (plain and len(kinds) < 2)
    if parts is not None:
        same_by_tables(made, parts, x)


@pytest.mark.parametrize(("leaves", "divided"), [(31, True), (33, True), (64, True), (65, False)])
def test_trees_of_few_leaves_are_laid_out_as_tables(leaves: int, divided: bool) -> None:
    rows, y = table(load_breast_cancer)
    noise = np.random.default_rng(0).random(len(y)) < 0.5  # so that every tree grows as large as it may
    model = HistGradientBoostingClassifier(max_iter=40, max_leaf_nodes=leaves, min_samples_leaf=2)
    found = Compiles(model, rows, noise)
    assert (found.compiled.trees is not None) == divided
    found.run(rows)


def test_trees_behind_features_that_are_made_of_others_are_laid_out_too() -> None:
    draw = np.random.default_rng(0)
    rows = pl.DataFrame({"a": draw.normal(size=300), "b": draw.integers(0, 9, 300), "c": draw.integers(0, 9, 300)})
    y = rows["a"].to_numpy() + rows["b"].to_numpy() % 3 > 1
    encoded = make_column_transformer(
        (OneHotEncoder(handle_unknown="ignore", sparse_output=False), ["b", "c"]), remainder="passthrough"
    )
    found = Compiles(make_pipeline(encoded, HistGradientBoostingClassifier(max_iter=40)), rows, y)
    assert found.compiled.trees is not None, found.compiled.reason
    found.run(rows)


def test_tables_are_used_from_so_many_rows_on_as_they_are_quicker_for() -> None:
    rows, y = table(load_breast_cancer)
    found = Compiles(HistGradientBoostingClassifier(max_iter=100), rows, y)
    assert found.compiled.trees is not None
    opened = OpenGraph(found.graph, found.blobs[found.compiled.trees])
    x = rows.to_numpy()
    (whole,) = opened._whole({"x": x})
    for least in (None, 1, 100, 1000):
        opened.many = least
        np.testing.assert_array_equal(opened.run({"x": x})[0], whole)
    calls: list[int] = []

    def slow(x: NDArray[np.float64]) -> list[NDArray[Any]]:
        calls.append(len(x))
        time.sleep(0.0005 * len(x))
        return [x.sum(axis=1)]

    def quick(x: NDArray[np.float64]) -> list[NDArray[Any]]:
        return [x.sum(axis=1)]

    assert quickest(slow, quick, x[:512]) == 32
    assert quickest(quick, slow, x[:64]) is None
    assert quickest(quick, lambda x: [x.sum(axis=1) + 1e-9], x[:64]) is None
    assert calls


MAKERS: list[Callable[[], Any]] = [
    lambda: DecisionTreeRegressor(max_depth=4),
    lambda: ExtraTreesRegressor(3, max_depth=4, random_state=0),
    lambda: GradientBoostingRegressor(n_estimators=3),
    lambda: HistGradientBoostingRegressor(max_iter=3, min_samples_leaf=2),
    lambda: lightgbm.LGBMRegressor(**QUIET, n_estimators=3, min_child_samples=2, min_data_in_bin=1),
    lambda: lightgbm.LGBMRegressor(**QUIET, n_estimators=3, min_child_samples=2, zero_as_missing=True),
    lambda: lightgbm.LGBMRegressor(**QUIET, n_estimators=3, min_child_samples=2, use_missing=False),
    lambda: xgboost.XGBRegressor(n_estimators=3, nthread=1),
]


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 2**32 - 1), st.data())
@pytest.mark.parametrize("maker", MAKERS, ids=lambda maker: name_of(maker()))
def test_libraries_and_graphs_agree_on_the_thresholds_themselves(
    maker: Callable[[], Any], seed: int, data: st.DataObject
) -> None:
    draw = np.random.default_rng(seed)
    x = np.column_stack([draw.integers(-3, 4, 60), draw.normal(size=60).round(2), draw.gamma(1, 1e4, 60)]).astype(float)
    y = x[:, 0] + np.sign(x[:, 1]) + draw.normal(size=60)
    model = maker()
    takes_gaps = not isinstance(model, GradientBoostingRegressor)
    if takes_gaps and seed % 2:
        x[draw.random(x.shape) < 0.1] = np.nan
    predictor = of_sklearn._Estimator(model.fit(x, y))
    features = tuple((name, "Float64") for name in "abc")
    graph = convert.convert(Subject("sklearn", model, features, "ndarray", None), label=False)
    (node,) = [node for node in onnx.load_model_from_string(graph).graph.node if node.op_type == "TreeEnsemble"]
    held = {attribute.name: helper.get_attribute_value(attribute) for attribute in node.attribute}
    splits = numpy_helper.to_array(held["nodes_splits"])
    places = np.array(held["nodes_featureids"])
    rows = []
    for place, split in data.draw(st.lists(st.sampled_from(list(zip(places, splits, strict=True))), max_size=10)):
        for value in (split, np.nextafter(split, -np.inf), np.nextafter(split, np.inf), np.float64(np.float32(split))):
            row = x[draw.integers(0, 60)].copy()
            row[place] = value
            rows.append(row)
    odd = st.sampled_from([0.0, -0.0, 1e-36, -1e-36, 1e-20, 3e38, -3e38, *([float("nan")] if takes_gaps else [])])
    rows += [np.array(row) for row in data.draw(st.lists(st.tuples(odd, odd, odd), min_size=1, max_size=5))]
    given_rows = np.array([row for row in rows if not np.isinf(row.astype(np.float32)).any()])
    made = onnxruntime.InferenceSession(graph).run(None, {"x": given_rows})[0]
    tolerance = 1e-5 if "XGB" in str(model) else 1e-12
    assert np.allclose(made, predictor.predict(given_rows), rtol=tolerance, atol=tolerance)


# In a bundle.

HERE = Path(__file__).parent.parent / "loop" / "faults"


def test_equal_work_gives_the_equal_bundle(tmp_path: Path) -> None:
    source = (HERE / "small_loop.py").read_text()
    draw = np.random.default_rng(0)
    visits, minutes = draw.poisson(5, 300), draw.gamma(2, 10, 300)
    bought = (draw.random(300) < 1 / (1 + np.exp(5 - visits))).astype(int)
    frame = pl.DataFrame({"id": range(300), "visits": visits, "minutes": minutes, "bought": bought})
    store = open_store(tmp_path / "store")

    def bundle(run: str, text: str) -> tuple[str, BundleManifest, list[str]]:
        (tmp_path / "small_loop.py").write_text(text)
        now = datetime(2024, 1, int(run, 16), tzinfo=UTC)
        loaded = load(tmp_path / "small_loop.py")
        made = build(loaded, store, frame, run=Run(run * 32, "small", "t", "running", now), now=now, overrides={})
        manifest = msgspec.json.decode(store.blobs.get(made.bundle), type=BundleManifest)
        return made.bundle, manifest, [artifact.name for artifact in made.artifacts]

    first, manifest, artifacts = bundle("1", source)
    again, _, _ = bundle("2", source)
    other, changed, _ = bundle("3", source + "\n# another comment\n")
    store.close()
    assert again == first
    assert other != first
    assert manifest.compiled is not None
    assert manifest.compiled.graph is not None, manifest.compiled.reason
    assert re.match(r"Compiled: equal on 300 rows; .*; a row takes \d+ µs instead of", manifest.compiled.sentence)
    assert changed.compiled == manifest.compiled
    assert "compiled.onnx" in artifacts
    assert ("compiled.trees" in artifacts) == (manifest.compiled.trees is not None)


def test_compiling_twice_gives_the_same_bytes() -> None:
    rows, _, y = people()
    encode = make_column_transformer((OneHotEncoder(), TEXTS), (StandardScaler(), ["size", "age"]))
    for last in (RandomForestClassifier(5, random_state=0), MLPClassifier((4,), max_iter=5, random_state=0)):
        found = Compiles(make_pipeline(encode, last), rows, y)
        first, second = found.compiled, found.compile()
        assert second.graph is not None
        assert found.blobs[second.graph] == found.graph
        timings = dict.fromkeys(("row_us", "original_row_us", "batch_row_us", "original_batch_row_us"))
        plain = [msgspec.structs.replace(one, graph="", **timings) for one in (first, second)]
        assert plain[0] == plain[1]


def test_the_missing_text_is_one_that_no_text_may_hold() -> None:
    assert 0xFDD0 <= ord(MISSING_TEXT) <= 0xFDEF
