"""Whether the server lives, whether it takes requests, and what it counts."""

from __future__ import annotations

from fastapi import APIRouter, Request
from prometheus_client import CONTENT_TYPE_LATEST
from starlette.responses import JSONResponse, Response

from wavconformer.serve.service import Service

router = APIRouter(tags=["health"])


@router.get("/healthz", summary="Whether the process lives.")
async def healthz() -> JSONResponse:
    """Always, where there is an answer."""
    return JSONResponse({"status": "ok"})


@router.get("/readyz", summary="Whether requests are taken.")
async def readyz(request: Request) -> JSONResponse:
    """503 when the server is stopping."""
    service: Service = request.app.state.service
    if service.stopping:
        return JSONResponse({"status": "stopping"}, 503)
    return JSONResponse({"status": "ok"})


@router.get("/metrics", summary="Counters, for Prometheus.", response_class=Response)
async def metrics(request: Request) -> Response:
    """Needs a key where there are keys, as Prometheus can send one."""
    service: Service = request.app.state.service
    return Response(service.metrics.text(), media_type=CONTENT_TYPE_LATEST)
