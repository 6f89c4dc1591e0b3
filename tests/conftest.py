"""Set before any test imports a library that reads it."""

import os

os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
os.environ.setdefault("OMP_NUM_THREADS", "1")

from hypothesis import HealthCheck, settings

# A busy machine must not fail a property: what is asserted is never how long an example took.
settings.register_profile("noria", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("noria")
