"""All that can be asked for.

A further task is an entry here: it becomes an endpoint, can be sent as a job, and stands in the OpenAPI description.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from wavconformer.errors import ConfigError
from wavconformer.serve.align import ALIGN
from wavconformer.serve.service import Service
from wavconformer.serve.task import Task
from wavconformer.serve.transcriptions import TRANSCRIPTIONS

TASKS: dict[str, Task[Any]] = {task.name: task for task in (TRANSCRIPTIONS, ALIGN)}
"""By name."""


def load_tasks(service: Service, models: Mapping[str, str]) -> None:
    """Loads what tasks need besides the model, by the task's name.

    Raises ConfigError for a task that isn't there or takes no model, and what its `load` raises.
    """
    for name, place in models.items():
        load = TASKS[name].load if name in TASKS else None
        if load is None:
            able = ", ".join(task.name for task in TASKS.values() if task.load is not None)
            raise ConfigError(f"No task '{name}' takes a model: {able or 'none'} {'does' if able else 'do'}.")
        service.loaded[name] = load(place)
