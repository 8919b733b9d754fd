"""How many examples properties have: few as a rule, many by ``--hypothesis-profile=nightly``."""

from __future__ import annotations

import os

from hypothesis import HealthCheck, settings

from tests.strategies import USUAL_EXAMPLES

# The first call of a kernel loads compiled code from disk, so no deadline.
settings.register_profile(
    "default",
    deadline=None,
    max_examples=USUAL_EXAMPLES,
    suppress_health_check=[HealthCheck.too_slow],
)
usual = settings.get_profile("default")
settings.register_profile("ci", usual, derandomize=True)
settings.register_profile("nightly", usual, max_examples=20 * USUAL_EXAMPLES, print_blob=True)
settings.load_profile("ci" if os.environ.get("CI") else "default")
