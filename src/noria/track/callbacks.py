"""Hooks of the boosters and of Keras that log to a run; each is imported with the library it is for.

    lightgbm.train(..., callbacks=[callbacks.lightgbm(run)])
    xgboost.train(..., callbacks=[callbacks.xgboost(run)])
    model.fit(..., callbacks=[callbacks.keras(run)])
    callbacks.sklearn(run, estimator, x_test, y_test)

Everything else that ``mlflow.autolog()`` knows is logged by it: set ``MLFLOW_TRACKING_URI`` to the server.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from noria.track.client import ActiveRun

__all__ = ["keras", "lightgbm", "sklearn", "xgboost"]


def lightgbm(run: ActiveRun) -> Callable[[Any], None]:
    """A callback for ``lightgbm.train`` and its estimators: every evaluation, by dataset and metric."""

    def log(environment: Any) -> None:
        if environment.iteration == environment.begin_iteration:
            run.params({key: value for key, value in environment.params.items() if not callable(value)})
        results = environment.evaluation_result_list or ()
        run.log({f"{row[0]}-{row[1]}": row[2] for row in results}, step=environment.iteration)

    log.order = 25  # type: ignore[attr-defined] # after early stopping has looked
    return log


def xgboost(run: ActiveRun) -> Any:
    """A callback for ``xgboost.train`` and its estimators: every evaluation, by dataset and metric."""
    from xgboost.callback import TrainingCallback

    class Log(TrainingCallback):
        """Logs after each round."""

        def after_iteration(self, model: Any, epoch: int, evals_log: Any) -> bool:
            """Log the round; False lets training go on."""
            values = {
                f"{data}-{metric}": history[-1] if not isinstance(history[-1], tuple) else history[-1][0]
                for data, metrics in evals_log.items()
                for metric, history in metrics.items()
            }
            run.log(values, step=epoch)
            return False

    return Log()


def keras(run: ActiveRun) -> Any:
    """A callback for Keras models: the logs of every epoch."""
    from keras.callbacks import Callback

    class Log(Callback):  # type: ignore[misc]
        """Logs after each epoch."""

        def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
            """Log the epoch."""
            run.log({key: float(value) for key, value in (logs or {}).items()}, step=epoch)

    return Log()


def sklearn(run: ActiveRun, estimator: Any, x: Any = None, y: Any = None, name: str = "test") -> None:
    """Log an estimator's params, and its score on some rows.

    Args:
        run: the run.
        estimator: fitted.
        x: rows to score on; None for no score.
        y: their labels.
        name: what to call those rows.
    """
    run.params({key: repr(value) for key, value in estimator.get_params(deep=True).items()})
    run.tags({"estimator": type(estimator).__name__})
    if x is not None:
        run.log({f"{name}-score": float(estimator.score(x, y))}, step=0)
