from noria import AtLeast, Loop, TimeSplit

loop = Loop("no name!", gates=(  # fault: cannot name a loop | there is no source. | there is no train step.
    AtLeast("auc", 0.8),  # fault: there is no evaluate step
), split=TimeSplit(test="30d"))


@loop.gate
def enough(metrics: dict) -> bool:  # fault: gate enough needs metrics, and there is no evaluate step.
    return True
