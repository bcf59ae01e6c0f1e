"""All that can be asked for.

A further task is an entry here: it becomes an endpoint, can be sent as a job, and stands in the OpenAPI description.
"""

from __future__ import annotations

from typing import Any

from wavconformer.serve.align import ALIGN
from wavconformer.serve.sounds import CLASSIFY
from wavconformer.serve.task import Task
from wavconformer.serve.transcriptions import TRANSCRIPTIONS
from wavconformer.serve.voices import DIARIZE, EMBED, VERIFY

TASKS: dict[str, Task[Any]] = {task.name: task for task in (TRANSCRIPTIONS, ALIGN, CLASSIFY, EMBED, VERIFY, DIARIZE)}
"""By name."""
