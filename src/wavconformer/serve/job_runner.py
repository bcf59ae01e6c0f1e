"""Does the jobs, one after the other, in threads of its own."""

from __future__ import annotations

import threading
import time
from contextlib import ExitStack

from wavconformer.serve.catalogue import TASKS
from wavconformer.serve.failures import Failure, failure_of
from wavconformer.serve.job_store import Job, JobStore
from wavconformer.serve.logs import log
from wavconformer.serve.service import Service, Visit
from wavconformer.serve.task import Answer
from wavconformer.serve.uploads import Upload, checked
from wavconformer.serve.work import Reason, Stopped, Work

# How often a job's progress is written down, and old jobs are taken away, in seconds.
_PROGRESS = 0.5
_SWEEP = 3600.0


class JobRunner:
    """Threads that take jobs out of a store."""

    def __init__(self, service: Service, store: JobStore) -> None:
        self._service, self._store = service, store
        self._works: dict[str, Work] = {}
        self._changed = threading.Condition()
        self._stopping = False
        self._swept = 0.0
        self._threads = [
            threading.Thread(target=self._run, name=f"jobs-{number}", daemon=True)
            for number in range(service.settings.job_workers)
        ]
        for thread in self._threads:
            thread.start()

    def wake(self) -> None:
        """There is a new job."""
        with self._changed:
            self._changed.notify()

    def cancel(self, name: str) -> bool:
        """Ends a job before its end; False where it was over already."""
        was = self._store.cancel(name)
        with self._changed:
            if name in self._works:
                self._works[name].stop(Reason.CANCELLED)
        if was:
            self._service.metrics.jobs.labels("cancelled").inc()
        return was

    def park(self) -> None:
        """Ends it all: what runs waits for the next start."""
        with self._changed:
            self._stopping = True
            for work in self._works.values():
                work.stop(Reason.STOPPING)
            self._changed.notify_all()
        for thread in self._threads:
            thread.join()

    def _run(self) -> None:
        while True:
            with self._changed:
                if self._stopping:
                    return
                job = self._store.claim()
                if job is None:
                    self._sweep()
                    self._changed.wait(_SWEEP)
                    continue
                work = self._works[job.id] = Work()
            try:
                self._do(job, work)
            finally:
                with self._changed:
                    del self._works[job.id]

    def _do(self, job: Job, work: Work) -> None:
        begun = time.monotonic()
        try:
            answer = self._answer(job, work)
        except Stopped as stopped:
            if stopped.reason is Reason.STOPPING:
                self._store.park(job.id)
            state = "parked" if stopped.reason is Reason.STOPPING else "cancelled"
        except Exception as error:  # noqa: BLE001 - it is the job's, and its owner is told
            state = "cancelled"  # which takes its recordings from under it
            if not work.over():
                failure = failure_of(error)
                self._store.fail(job.id, failure.status, failure.body())
                state = "failed"
        else:
            state = "done" if self._store.finish(job.id, answer) else "cancelled"
        if state in ("done", "failed"):
            self._service.metrics.jobs.labels(state).inc()
        log("job", job=job.id, task=job.task, state=state, seconds=round(time.monotonic() - begun, 3))

    def _answer(self, job: Job, work: Work) -> Answer:
        task = TASKS.get(job.task)
        if task is None:
            raise Failure(400, f"This version has no task '{job.task}'.", code="not_available", param="task")
        task.require(self._service)
        told = 0.0

        def progress(seconds: float, duration: float | None) -> None:
            nonlocal told
            if time.monotonic() - told > _PROGRESS:
                told = time.monotonic()
                self._store.progress(job.id, seconds, duration)

        with ExitStack() as stack:
            uploads = {
                key: Upload(stack.enter_context(self._store.path(job.id, key).open("rb")), name)
                for key, name in job.files.items()
            }
            visit = Visit(self._service, work, uploads, self._service.settings.job_hours * 3600, progress)
            return task.run(visit, checked(task.form, job.fields))

    def _sweep(self) -> None:
        if time.monotonic() - self._swept >= _SWEEP or not self._swept:
            self._swept = time.monotonic()
            self._store.forget_old(self._service.settings.keep_days)
