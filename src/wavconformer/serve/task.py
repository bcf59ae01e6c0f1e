"""Something that can be asked for: its form, the function that does it, and what it needs."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

from pydantic import BaseModel, ConfigDict, Field

from wavconformer.serve.failures import Failure, not_available
from wavconformer.serve.service import Service, Visit
from wavconformer.serve.settings import Settings

JSON = "application/json"


@dataclass(frozen=True)
class Answer:
    """What a task gives: a body and its type."""

    body: str
    media_type: str = JSON

    @classmethod
    def of(cls, content: Mapping[str, Any]) -> Answer:
        """Plain values as JSON."""
        return cls(json.dumps(content, ensure_ascii=False, allow_nan=False))


class TaskForm(BaseModel):
    """The fields that all tasks have."""

    model_config = ConfigDict(extra="forbid")

    model: str | None = Field(None, max_length=200, description="Name of the model, as /v1/models has it.")


FormType = TypeVar("FormType", bound=TaskForm)


@dataclass(frozen=True)
class Task(Generic[FormType]):
    """Something that can be asked for.

    name: of the task, and of its endpoint, `POST /v1/<name>`, unless it has another path. form: its fields. run: does
        it, in a thread. files: names of the recordings that it takes.
    needs: the kind of model besides that of words, as `models.KINDS` has it, without which it can't be had.
    """

    name: str
    summary: str
    form: type[FormType]
    run: Callable[[Visit, FormType], Answer]
    files: tuple[str, ...] = ("file",)
    needs: str | None = None
    path: str = ""

    @property
    def address(self) -> str:
        """Of its endpoint."""
        return self.path or f"/v1/{self.name}"

    def why_not(self, service: Service) -> str | None:
        """Why it can't be had on a server, or None where it can."""
        return None if self.needs is None else service.models.why_not(self.needs)

    def require(self, service: Service) -> None:
        """Raises Failure where it can't be had."""
        reason = self.why_not(service)
        if reason is not None:
            raise not_available(reason)


def check_model(settings: Settings, name: str | None) -> None:
    """Raises Failure (404) for a model that isn't here."""
    if name is not None and name not in settings.names:
        raise Failure(
            404,
            f"The model '{name}' does not exist: this server has {', '.join(settings.names)}.",
            code="model_not_found",
            param="model",
        )
