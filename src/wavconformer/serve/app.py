"""The application, put together."""

from __future__ import annotations

import copy
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from fastapi import FastAPI
from starlette.middleware.cors import CORSMiddleware
from starlette.responses import FileResponse, RedirectResponse, Response
from starlette.staticfiles import StaticFiles

from wavconformer import __version__
from wavconformer.serve import endpoints, health, jobs, live
from wavconformer.serve.failures import add_handlers
from wavconformer.serve.guard import Guard, Keys, Record
from wavconformer.serve.job_runner import JobRunner
from wavconformer.serve.job_store import JobStore, State
from wavconformer.serve.reference import reference
from wavconformer.serve.service import Service

STATIC = Path(__file__).parent / "static"

_ABOUT = """Speech to text with a Wav2Vec2-Conformer model: as the OpenAI API has it, and more.

Errors are `{"error": {"message", "type", "param", "code"}}`. Live streams are at `WS /v1/live`.
"""


def create_app(service: Service) -> FastAPI:
    """The application of a service; it closes it at its end.

    Raises ConfigError where the folder of its jobs can't be used.
    """
    settings = service.settings
    store = JobStore(settings.folder)

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        app.state.runner = JobRunner(service, store)
        yield
        service.finish()
        app.state.runner.park()
        service.close()
        store.close()

    app = FastAPI(
        title="wavconformer",
        version=__version__,
        description=_ABOUT,
        docs_url=None,  # FastAPI's pages load their programs from elsewhere
        redoc_url=None,
        lifespan=lifespan,
    )
    app.state.service, app.state.jobs, app.state.keys = service, store, Keys(settings.keys)
    for router in (endpoints.router, jobs.router, live.router, health.router):
        app.include_router(router)

    @app.get("/docs", include_in_schema=False)
    async def docs() -> Response:
        return Response(reference(app.openapi()), media_type="text/html")

    @app.get("/", include_in_schema=False)
    async def page() -> Response:
        index = STATIC / "index.html"
        return FileResponse(index) if index.is_file() else RedirectResponse("/docs")

    app.mount("/static", StaticFiles(directory=STATIC), name="static")
    add_handlers(app)
    app.openapi_schema = _with_models(app.openapi(), settings.names)

    if settings.origins:
        app.add_middleware(
            CORSMiddleware,
            allow_origins=settings.origins,
            allow_methods=["GET", "POST", "DELETE"],
            allow_headers=["Authorization", "Content-Type"],
        )
    app.add_middleware(Guard, settings=settings, keys=app.state.keys)
    app.add_middleware(Record, metrics=service.metrics)
    service.metrics.gauge("jobs_queued", "Jobs that wait.", lambda: store.count(State.QUEUED))
    service.metrics.gauge("jobs_running", "Jobs that run.", lambda: store.count(State.RUNNING))
    return app


def _with_models(description: dict[str, Any], names: Sequence[str]) -> dict[str, Any]:
    """A description whose forms have the names of a server's model, where any text stood."""
    description = copy.deepcopy(description)  # its parts are those of all servers
    for path in description["paths"].values():
        for operation in path.values():
            for content in operation.get("requestBody", {}).get("content", {}).values():
                fields = content["schema"]["properties"]
                about = fields["model"]["description"]
                fields["model"] = {"type": "string", "enum": list(names), "description": about}
    return description
