from __future__ import annotations

import os

from hypothesis import HealthCheck, settings

# The first call of a kernel loads compiled code from disk, so no deadline.
settings.register_profile(
    "default",
    deadline=None,
    max_examples=40,
    suppress_health_check=[HealthCheck.too_slow],
)
settings.register_profile("ci", settings.get_profile("default"), derandomize=True)
settings.load_profile("ci" if os.environ.get("CI") else "default")
