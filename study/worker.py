"""What the processes of trials import before their first trial: Ray loads it while the driver gets ready.

Nothing else imports it. A process that lacks it (its path is told with the job) imports the same when its trial begins.
"""

from __future__ import annotations

import os

from study.ray_doorway import THREADS

os.environ.setdefault("OMP_NUM_THREADS", os.environ.get(THREADS, "1"))  # libraries read it as they are loaded

import ray.tune  # noqa: F401

import study.trainable  # noqa: F401
