from __future__ import annotations

import json
from pathlib import Path

import pandas as pd
import pandera.pandas as pandera
import pytest

from noria import AtLeast, Csv, Loop, Unique
from noria.core.canonical import canonical_json
from noria.data.rules import FunctionSource
from noria.loop.load import load
from noria.loop.plan import plan, plan_digest
from noria.loop.wire import features_needed, order_features

SOUND = Path(__file__).parent / "shapes" / "sound.py"


def test_a_decorator_returns_the_same_function_bare_or_with_options() -> None:
    loop = Loop("same", source=Csv("a.csv", label="y"))

    def double(data: pd.DataFrame) -> pd.Series[float]:
        return data["a"] * 2

    def fit(x_train: pd.DataFrame, *, depth: int = 3) -> int:
        return depth

    assert loop.feature(double) is double
    assert loop.feature(window="1d")(double) is double
    assert loop.train(fit) is fit
    assert loop.train()(fit) is fit
    assert loop.evaluate(fit) is loop.gate()(fit) is fit
    typed: int = loop.train(fit)(pd.DataFrame(), depth=4)
    assert typed == 4
    assert double(pd.DataFrame({"a": [1.0]})).tolist() == [2.0]


def test_declaring_records_each_step_and_opens_nothing() -> None:
    loop = load(SOUND).loop
    assert [(step.kind, step.name) for step in loop.steps] == [
        ("feature", "tenure_months"),
        ("feature", "spend_per_month"),
        ("train", "train"),
        ("evaluate", "evaluate"),
    ]
    train = loop.step("train")
    assert train is not None
    assert [given.name for given in train.inputs] == ["x_train", "y_train"]
    assert [(knob.name, knob.default) for knob in train.knobs] == [("C", 1.0)]
    line = int(train.where.rpartition(":")[2])
    assert SOUND.read_text().splitlines()[line - 1].startswith("def train(")
    assert not Path("customers.csv").exists()


def test_a_source_function_is_declared_with_its_columns() -> None:
    loop = Loop("function")

    @loop.source(key="id", label="y", sensitive=("sex",), labels_after="2d", served=True)
    def rows(*, since: int = 2020) -> pd.DataFrame:
        return pd.DataFrame({"id": [since]})

    origin = loop.origin
    assert isinstance(origin, FunctionSource)
    assert (origin.key, origin.label, origin.sensitive, origin.served) == ("id", "y", ("sex",), True)
    assert origin.function is rows
    assert origin.name == "rows"
    assert "test_declare.py" in origin.where


def test_a_single_value_stands_for_a_tuple_of_one() -> None:
    loop = Loop("one", source=Csv("a.csv", label="y"), expect=Unique("id"), gates=[AtLeast("f1", 0.5)])  # type: ignore[arg-type]  # a forgotten comma
    assert loop.expect == (Unique("id"),)
    assert loop.gates == (AtLeast("f1", 0.5),)


def test_only_a_function_can_be_decorated() -> None:
    loop = Loop("no")
    with pytest.raises(TypeError, match=r"@loop\.feature goes on a function"):
        loop.feature(len)


def test_features_come_after_what_they_need() -> None:
    loop = Loop("order", source=Csv("a.csv", label="y"))

    @loop.feature
    def last(middle: pd.Series[float], first: pd.Series[float]) -> pd.Series[float]:
        return middle + first

    @loop.feature
    def middle(first: pd.Series[float]) -> pd.Series[float]:
        return first

    @loop.feature
    def first(data: pd.DataFrame) -> pd.Series[float]:
        return data["a"]

    @loop.feature
    def alone(data: pd.DataFrame) -> pd.Series[float]:
        return data["b"]

    assert [step.name for step in order_features(loop)] == ["first", "middle", "last", "alone"]
    assert [step.name for step in features_needed(loop, ["middle"])] == ["first", "middle"]


def test_the_plan_is_the_whole_declaration_as_json_and_stays_the_same() -> None:
    loop = load(SOUND).loop
    found = plan(loop)
    assert json.loads(canonical_json(found)) == found == loop.plan()
    assert found["gates"][0] == {
        "type": "AtLeast",
        "metric": "roc_auc",
        "threshold": 0.8,
        "written": 'AtLeast("roc_auc", 0.8)',
    }
    assert found["steps"][2]["knobs"] == [{"name": "C", "type": "float", "default": 1.0}]
    assert found["steps"][0]["file"] == "sound.py"
    assert str(SOUND.parent) not in canonical_json(found)
    assert plan_digest(loop) == plan_digest(load(SOUND).loop)
    assert plan_digest(loop).startswith("blake3:")


def test_the_checks_of_a_pandera_schema_are_in_the_plan() -> None:
    def digest(low: int) -> str:
        schema = pandera.DataFrameSchema({"a": pandera.Column(int, pandera.Check.ge(low))})
        loop = Loop("schema", source=Csv("a.csv", label="y"), expect=(schema,))
        assert not any("expect" in fault.what for fault in loop.check())
        return plan_digest(loop)

    assert digest(0) == digest(0) != digest(1)


def test_a_pandera_model_is_an_expectation_as_it_is() -> None:
    class People(pandera.DataFrameModel):
        age: int

    loop = Loop("model", source=Csv("a.csv", label="y"), expect=(People,))
    assert not any("expect" in fault.what for fault in loop.check())
    assert loop.plan()["expect"][0]["written"] == "People"


def test_another_declaration_has_another_digest() -> None:
    loop = load(SOUND).loop
    before = plan_digest(loop)
    loop.gates = loop.gates[1:]
    assert plan_digest(loop) != before
