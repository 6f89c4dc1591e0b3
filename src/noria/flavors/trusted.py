"""Which types and functions a stored scikit-learn model may name.

What a model file names is imported, built from stored state and, for some, called with stored arguments. So
no whole package is trusted but scikit-learn's classes; of functions, only numerical ones. SciPy's statistical
distributions, for one, are not: they run text out of their stored state as code.
"""

from __future__ import annotations

import importlib
from collections.abc import Iterable
from types import BuiltinFunctionType, FunctionType

import numpy as np

__all__ = ["find_foreign"]

_NAMED = frozenset(
    [
        "builtins.bytearray",
        "builtins.bytes",
        "builtins.complex",
        "builtins.dict",
        "builtins.frozenset",
        "builtins.object",
        "builtins.range",
        "builtins.slice",
        "collections.Counter",
        "collections.OrderedDict",
        "collections.defaultdict",
        "collections.deque",
        "datetime.date",
        "datetime.datetime",
        "datetime.time",
        "datetime.timedelta",
        "datetime.timezone",
        "zoneinfo.ZoneInfo",
        "decimal.Decimal",
        "fractions.Fraction",
        "functools.partial",
        "operator.itemgetter",
        "numpy.ndarray",
        "numpy.dtype",
        "numpy.ma.MaskedArray",
        "numpy.random._generator.Generator",
        "scipy._lib.array_api_compat.numpy._aliases.asarray",
        "scipy.interpolate._bsplines.BSpline",
        "scipy.interpolate._interpolate.PPoly",
        "scipy.interpolate._interpolate.interp1d",
        "scipy.spatial._ckdtree.cKDTree",
        "scipy.spatial._kdtree.KDTree",
        "lightgbm.basic.Booster",
        "lightgbm.sklearn.LGBMClassifier",
        "lightgbm.sklearn.LGBMModel",
        "lightgbm.sklearn.LGBMRanker",
        "lightgbm.sklearn.LGBMRegressor",
        "xgboost.callback.EarlyStopping",
        "xgboost.core.Booster",
        "xgboost.sklearn.XGBClassifier",
        "xgboost.sklearn.XGBModel",
        "xgboost.sklearn.XGBRFClassifier",
        "xgboost.sklearn.XGBRFRegressor",
        "xgboost.sklearn.XGBRanker",
        "xgboost.sklearn.XGBRegressor",
    ]
)
_SPARSE = frozenset(
    f"scipy.sparse._{form}.{form}_{kind}"
    for form in ("bsr", "coo", "csc", "csr", "dia", "dok", "lil")
    for kind in ("array", "matrix")
)
_NUMPY_FUNCTIONS = frozenset(
    [
        "abs",
        "amax",
        "amin",
        "angle",
        "argmax",
        "argmin",
        "argsort",
        "around",
        "array",
        "asarray",
        "ascontiguousarray",
        "asfarray",
        "astype",
        "atleast_1d",
        "atleast_2d",
        "average",
        "bincount",
        "clip",
        "column_stack",
        "concatenate",
        "copy",
        "cumprod",
        "cumsum",
        "diff",
        "digitize",
        "expand_dims",
        "fix",
        "flip",
        "full_like",
        "gradient",
        "hstack",
        "imag",
        "interp",
        "isclose",
        "isin",
        "max",
        "mean",
        "median",
        "min",
        "moveaxis",
        "nan_to_num",
        "nanmax",
        "nanmean",
        "nanmedian",
        "nanmin",
        "nanpercentile",
        "nanquantile",
        "nanstd",
        "nansum",
        "nanvar",
        "ones_like",
        "percentile",
        "prod",
        "quantile",
        "ravel",
        "real",
        "repeat",
        "reshape",
        "roll",
        "round",
        "searchsorted",
        "select",
        "sinc",
        "sort",
        "split",
        "squeeze",
        "stack",
        "std",
        "sum",
        "swapaxes",
        "take",
        "tile",
        "transpose",
        "unique",
        "unwrap",
        "var",
        "vstack",
        "where",
        "zeros_like",
    ]
)
_NOT_SKLEARN = frozenset(
    (
        "__main__",
        "_build_utils",
        "_testing",
        "conftest",
        "datasets",
        "discovery",
        "externals",
        "setup",
        "tests",
    )
)
_SKLEARN_FUNCTIONS = tuple(
    f"sklearn.{part}."
    for part in ("cluster", "covariance", "decomposition", "feature_selection", "linear_model", "metrics",
                 "preprocessing", "utils.extmath")
)  # fmt: skip


def find_foreign(names: Iterable[str]) -> list[str]:
    """Those of the full names that a stored model may not use, sorted."""
    return sorted({name for name in names if not _is_trusted(name)})


def _is_trusted(name: str) -> bool:
    if name in _NAMED or name in _SPARSE:
        return True
    module, _, attribute = name.rpartition(".")
    if module == "numpy":
        found = getattr(np, attribute, None)
        return attribute in _NUMPY_FUNCTIONS or isinstance(found, np.ufunc) or _is_scalar_type(found)
    if module == "numpy.dtypes":
        return attribute.endswith("DType")
    parts = module.split(".")
    return parts[0] == "sklearn" and not _NOT_SKLEARN & set(parts) and _is_of_sklearn(module, attribute)


def _is_scalar_type(found: object) -> bool:
    return isinstance(found, type) and issubclass(found, np.generic)


def _is_of_sklearn(module: str, attribute: str) -> bool:
    """Whether scikit-learn itself defines the class, or a numerical function, of this name."""
    try:
        found = getattr(importlib.import_module(module), attribute)
    except (ImportError, AttributeError):
        return False
    home = f"{getattr(found, '__module__', '')}."
    if isinstance(found, type):
        return home.startswith("sklearn.") and not _NOT_SKLEARN & set(home.split("."))
    return isinstance(found, (FunctionType, BuiltinFunctionType)) and home.startswith(_SKLEARN_FUNCTIONS)
