"""The models of the tasks that the model of words can't do: each loaded once, and used by one request at a time."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from importlib import import_module
from importlib.util import find_spec
from typing import Any

from wavconformer.errors import ConfigError
from wavconformer.files import Source
from wavconformer.serve.work import GLANCE, Work


@dataclass(frozen=True)
class Kind:
    """A kind of model. module: that must be there. shipped: name of the one that ships with the package, if it does.

    load: makes it of the module and a place; it is given the places of the other kinds besides.
    """

    module: str
    shipped: str
    load: Callable[[Any, str, Mapping[str, str]], Any]


KINDS = {
    "classify": Kind(
        "wavconformer.tasks.classify", "keywords", lambda module, place, others: module.load_classifier(place)
    ),
    "speakers": Kind(
        "wavconformer.tasks.embedding", "speakers", lambda module, place, others: module.Embedder.load(place)
    ),
    "diarize": Kind(
        "wavconformer.tasks.diarize",
        "diarize",
        lambda module, place, others: module.Diarizer.load(place, speaker_model=others.get("speakers")),
    ),
}


class FurtherModels:
    """Those of a server, by kind."""

    def __init__(self, places: Mapping[str, str]) -> None:
        """`places`: by kind. What they name is loaded now, and what ships along when it is used.

        Raises ConfigError for a kind that there isn't, and what loading raises.
        """
        for name in places:
            if name not in KINDS or find_spec(KINDS[name].module) is None:
                known = ", ".join(kind for kind, it in KINDS.items() if find_spec(it.module) is not None)
                raise ConfigError(f"There is no task '{name}' that takes a model of its own, but: {known or 'none'}.")
        self._places = dict(places)
        self._models: dict[str, Any] = {}
        self._locks = {name: threading.Lock() for name in KINDS}
        for name in places:
            self._models[name] = self._loaded(name)

    def why_not(self, name: str) -> str | None:
        """Why there is none of a kind, or None where there is."""
        kind = KINDS[name]
        if find_spec(kind.module) is None:
            return f"This version has no '{name}'."
        if name in self._places or Source(kind.shipped).folder is not None:
            return None
        return f"This server was started without a model for it (--task {name}=MODEL)."

    @contextmanager
    def use(self, name: str, work: Work) -> Iterator[Any]:
        """The model of a kind, for as long as the block lasts; others wait for it.

        Raises Stopped where the work has to stop before it is free.
        """
        lock = self._locks[name]
        while not lock.acquire(timeout=GLANCE):
            work.check()
        try:
            if name not in self._models:
                self._models[name] = self._loaded(name)
            yield self._models[name]
        finally:
            lock.release()

    def _loaded(self, name: str) -> Any:
        kind = KINDS[name]
        return kind.load(import_module(kind.module), self._places.get(name, kind.shipped), self._places)
