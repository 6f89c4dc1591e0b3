"""The table of views: name to the function that makes it and the template that draws it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import msgspec

from noria.ui.ask import Ask
from noria.ui.pages.audit import audit
from noria.ui.pages.compare import compare
from noria.ui.pages.data import data, dataset
from noria.ui.pages.experiments import experiment, experiments
from noria.ui.pages.files import file
from noria.ui.pages.home import home
from noria.ui.pages.loops import loop
from noria.ui.pages.models import model, models
from noria.ui.pages.monitoring import monitoring
from noria.ui.pages.predictions import prediction, predictions
from noria.ui.pages.registered import registered, registered_model, registered_version
from noria.ui.pages.runs import run, runs
from noria.ui.pages.tracked import tracked
from noria.ui.pages.tracked_compare import tracked_compare
from noria.ui.pages.turns import turn, turns


@dataclass(frozen=True, slots=True)
class View:
    """One page: ``tab`` is the part of the navigation it lies under; ``live`` pages refresh themselves."""

    make: Callable[[Ask], msgspec.Struct]
    template: str
    tab: str
    live: bool = False
    charts: bool = False


VIEWS: dict[str, View] = {
    "home": View(home, "home.html", "loops", live=True),
    "loop": View(loop, "loop.html", "wheel", live=True),
    "runs": View(runs, "runs.html", "runs", live=True),
    "run": View(run, "run.html", "runs", live=True, charts=True),
    "compare": View(compare, "compare.html", "runs", charts=True),
    "models": View(models, "models.html", "models", live=True),
    "model": View(model, "model.html", "models"),
    "monitoring": View(monitoring, "monitoring.html", "monitoring", live=True, charts=True),
    "predictions": View(predictions, "predictions.html", "predictions", live=True),
    "prediction": View(prediction, "prediction.html", "predictions", live=True),
    "data": View(data, "data.html", "data", live=True),
    "dataset": View(dataset, "dataset.html", "data"),
    "turns": View(turns, "turns.html", "turns", live=True),
    "turn": View(turn, "turn.html", "turns", live=True),
    "audit": View(audit, "audit.html", "audit", live=True),
    "experiments": View(experiments, "experiments.html", "experiments", live=True),
    "experiment": View(experiment, "experiment.html", "experiments", live=True),
    "tracked": View(tracked, "tracked.html", "experiments", live=True, charts=True),
    "tracked_compare": View(tracked_compare, "tracked_compare.html", "experiments", live=True, charts=True),
    "file": View(file, "file.html", "experiments"),
    "registered": View(registered, "registered.html", "registered", live=True),
    "registered_model": View(registered_model, "registered_model.html", "registered", live=True),
    "registered_version": View(registered_version, "registered_version.html", "registered"),
}
