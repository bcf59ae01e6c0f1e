"""Jobs as endpoints: for recordings that take longer than anybody waits with a connection open."""

from __future__ import annotations

import asyncio
from typing import Any

from fastapi import APIRouter, Request
from pydantic import ConfigDict, Field
from starlette.responses import JSONResponse, Response

from wavconformer.serve.catalogue import TASKS
from wavconformer.serve.endpoints import errors, form_schema, service_of
from wavconformer.serve.failures import Failure, refused
from wavconformer.serve.job_runner import JobRunner
from wavconformer.serve.job_store import Job, JobStore, State
from wavconformer.serve.settings import MEGABYTE, Settings
from wavconformer.serve.task import TaskForm, check_model
from wavconformer.serve.uploads import checked, require_files

router = APIRouter(prefix="/v1/jobs", tags=["jobs"])

_LATER = {"Retry-After": "30"}
_MISSING: dict[int | str, dict[str, Any]] = {404: {"description": "There is no such job."}}


class JobForm(TaskForm):
    """A job's fields: its task, and those that the task's own endpoint takes."""

    model_config = ConfigDict(extra="allow")

    task: str = Field("transcriptions", max_length=50, description=f"One of {', '.join(TASKS)}.")


def _places(request: Request) -> tuple[JobStore, JobRunner]:
    return request.app.state.jobs, request.app.state.runner


@router.post(
    "",
    status_code=202,
    summary="Send a job.",
    openapi_extra=form_schema(JobForm, ("file",)),
    responses={202: {"description": "It is queued."}, **errors(400, 401, 404, 408, 413, 429)},
)
async def submit(request: Request) -> Response:
    """Answers with the job as it stands; its address is in Location."""
    service = service_of(request)
    store, runner = _places(request)
    _check_room(store, service.settings)
    async with service.uploads.receive(request, service.settings.job_megabytes) as (fields, uploads):
        name = fields.pop("task", "transcriptions")
        task = TASKS.get(name) if isinstance(name, str) else None
        if task is None:
            raise refused(f"There is no such task: take one of {', '.join(TASKS)}.", "task")
        form = checked(task.form, fields)
        require_files(uploads, task.files)
        check_model(service.settings, form.model)
        task.require(service)
        if getattr(form, "stream", None):
            raise refused("A job's result isn't streamed: leave stream out.", "stream")
        _check_room(store, service.settings, sum(upload.size for upload in uploads.values()))
        recordings = {key: (upload.name, upload.file) for key, upload in uploads.items()}
        job = await asyncio.to_thread(store.add, task.name, fields, recordings)
    runner.wake()
    return JSONResponse(_plain(job), 202, {"Location": f"/v1/jobs/{job.id}"})


@router.get("/{job}", summary="How far a job is.", responses=_MISSING)
async def get(request: Request, job: str) -> JSONResponse:
    """The job, with its progress."""
    return JSONResponse(_plain(_found(request, job)))


@router.get(
    "/{job}/result",
    summary="What a job gave.",
    response_class=Response,
    responses={**_MISSING, 409: {"description": "It isn't done (code not_done), or was cancelled."}},
)
async def result(request: Request, job: str) -> Response:
    """As its task's own endpoint gives it; where it failed, with that error."""
    found = _found(request, job)
    if found.state is State.FAILED:
        assert found.error is not None
        return JSONResponse(found.error["body"], found.error["status"])
    answer = _places(request)[0].result(job)
    if answer is None:
        code = "cancelled" if found.state is State.CANCELLED else "not_done"
        raise Failure(409, f"The job is {found.state.value}.", code=code)
    return Response(answer.body, media_type=answer.media_type)


@router.delete("/{job}", summary="Cancel a job, or forget one that is over.", responses=_MISSING)
async def delete(request: Request, job: str) -> JSONResponse:
    """The job as it stands then. One that was over is gone afterwards, with its result."""
    store, runner = _places(request)
    found = _found(request, job)
    if not await asyncio.to_thread(runner.cancel, job):
        store.forget(job)
        return JSONResponse({**_plain(found), "deleted": True})
    return JSONResponse({**_plain(_found(request, job)), "deleted": False})


def _check_room(store: JobStore, settings: Settings, size: int = 0) -> None:
    """Raises Failure (429) where there is no room for a job whose recordings have so many bytes."""
    queued = store.count(State.QUEUED)
    if queued >= settings.jobs:
        raise Failure(429, f"{queued} jobs wait already.", code="busy", headers=_LATER)
    if store.held + size > settings.folder_megabytes * MEGABYTE:
        raise Failure(429, "There is no room for so much beside the jobs that wait.", code="busy", headers=_LATER)


def _found(request: Request, name: str) -> Job:
    job: Job | None = _places(request)[0].get(name)
    if job is None:
        raise Failure(404, "There is no such job.", code="job_not_found", param="job")
    return job


def _plain(job: Job) -> dict[str, Any]:
    done = 1.0 if job.state is State.DONE else 0.0
    if job.duration and not job.state.is_over:
        done = min(1.0, job.seconds / job.duration)
    return {
        "id": job.id,
        "object": "job",
        "task": job.task,
        "status": job.state.value,
        "created_at": int(job.created),
        "started_at": None if job.started is None else int(job.started),
        "finished_at": None if job.finished is None else int(job.finished),
        "attempts": job.attempts,
        "progress": {"seconds": round(job.seconds, 2), "duration": job.duration, "fraction": round(done, 4)},
        "error": None if job.error is None else job.error["body"]["error"],
    }
