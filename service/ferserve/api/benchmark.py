"""``/v1/benchmark``: accuracy jobs on the operator's FER2013 or on an uploaded zip."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import ExitStack
from typing import Annotated, Any

from fastapi import APIRouter, Depends, Request, Response
from fastapi.concurrency import run_in_threadpool
from fastapi.responses import HTMLResponse, StreamingResponse
from pydantic import ValidationError

from ferserve import errors
from ferserve.api.calls import BenchmarksDependency, BudgetDependency
from ferserve.api.openapi import GUARDED, UPLOADS, form_body, openapi_responses
from ferserve.api.uploads import (
    FIELD,
    FORM,
    JSON,
    media_type,
    read_form,
    read_json,
    read_text,
    the_file,
)
from ferserve.benchmark.jobs import Job
from ferserve.benchmark.report import render_report
from ferserve.benchmark.run import Benchmarks
from ferserve.benchmark.schemas import (
    BenchmarkDetails,
    BenchmarkJob,
    BenchmarkList,
    BenchmarkRequest,
    UploadOptions,
)
from ferserve.budget import Take
from ferserve.schemas import describe_faults

MAX_JSON_BYTES = 64 * 1024

UPLOAD_SECONDS = 600
"""An upload holds a place in the queue while it is read, so it has to end."""

EVENT_SECONDS = 0.25
"""Pause between two events of a job."""

BUDGET_SHARE = 0.5
"""The part of the budget for uploads that zips may fill: they stay until their jobs have run."""

router = APIRouter(prefix="/v1/benchmark", tags=["benchmark"])

_ZIP = {"type": "string", "format": "binary", "description": "The zip."}
_REQUEST_BODY = {
    "requestBody": {
        "required": False,
        "description": "JSON for a benchmark on the operator's FER2013; without a body all is "
        "left to the defaults. A form for one on a zip of your own: a folder for each emotion "
        "(`angry/`, `happy/`, …) with images of any format and size inside.",
        "content": {
            JSON: {"schema": BenchmarkRequest.model_json_schema()},
            **form_body(UploadOptions, FIELD, _ZIP),
        },
    }
}
_EVENT_STREAM: dict[int | str, dict[str, Any]] = {
    200: {
        "description": "Server-sent events. `progress` while the job waits or runs, and one "
        "`finished`, the last; the data of each is a BenchmarkJob in JSON.",
        "content": {"text/event-stream": {}},  # a schema would be one of all events together
    }
}
_PROBLEMS = openapi_responses(errors.NotFound, errors.InvalidParameter, *GUARDED)


@router.post(
    "",
    status_code=202,
    responses=openapi_responses(
        *UPLOADS,
        errors.DatasetNotConfigured,
        errors.TooManyImages,
        errors.InvalidArchive,
        errors.UnknownModel,
    ),
    openapi_extra=_REQUEST_BODY,
)
async def start_benchmark(
    request: Request, response: Response, benchmarks: BenchmarksDependency, budget: BudgetDependency
) -> BenchmarkJob:
    """Measures accuracy: of a served model or several, on FER2013 or on a zip of your own.

    Answers at once with a job; `links` says where to watch it. One job runs at a time, behind live
    requests. An upload is never written to disk; only thumbnails outlive its job.
    """
    if request.query_params:
        names = ", ".join(request.query_params)
        raise errors.InvalidParameter(f"{names}: options come in the body, not in the query")
    kind = media_type(request)
    if kind not in (FORM, JSON, ""):
        raise errors.UnsupportedMediaType(
            "send application/json for a benchmark on the operator's data set, or "
            f"multipart/form-data with a zip as field {FIELD!r}"
        )
    start = _on_upload if kind == FORM else _on_dataset
    with ExitStack() as held, benchmarks.queue.reserve():
        take = held.enter_context(budget.charge(BUDGET_SHARE))
        try:
            job = await start(request, benchmarks, take)
        except ValidationError as error:
            described = describe_faults(error)  # names the parameter and the rule, not the value
            if any(fault["type"] == "json_invalid" for fault in error.errors()):
                raise errors.MalformedRequest(f"the body is not JSON: {described}") from None
            raise errors.InvalidParameter(described) from None
        job.owner, job.release = request.state.owner, held.pop_all().close
    response.headers["Location"] = job.state.links.self
    return job.state


async def get_job(job_id: str, request: Request, benchmarks: BenchmarksDependency) -> Job:
    """Returns a job of the caller's; NotFound where there is none, or it is another key's."""
    job = benchmarks.queue.get(job_id)
    if job.owner != request.state.owner:  # the key's name; without keys all jobs are everyone's
        raise errors.NotFound("you have no benchmark with this id")
    return job


JobDependency = Annotated[Job, Depends(get_job)]


@router.get("", responses=openapi_responses(*GUARDED))
async def list_benchmarks(request: Request, benchmarks: BenchmarksDependency) -> BenchmarkList:
    """Lists the caller's among the last 20 benchmarks, newest first, without their results."""
    owner = request.state.owner
    return BenchmarkList(jobs=[job.state for job in benchmarks.queue.jobs if job.owner == owner])


@router.get("/{job_id}", responses=_PROBLEMS)
async def get_benchmark(job: JobDependency) -> BenchmarkDetails:
    """Returns a benchmark: its progress, then its result."""
    return job.state


@router.delete("/{job_id}", responses=_PROBLEMS)
async def cancel_benchmark(job: JobDependency) -> BenchmarkJob:
    """Cancels a benchmark that waits or runs; one that has ended stays as it is."""
    job.cancel()
    return job.state


@router.get(
    "/{job_id}/events", response_class=StreamingResponse, responses=_EVENT_STREAM | _PROBLEMS
)
async def follow_benchmark(job: JobDependency) -> StreamingResponse:
    """Streams a benchmark's progress as server-sent events until it ends."""
    return StreamingResponse(
        _events(job),
        media_type="text/event-stream",
        headers={"Cache-Control": "no-cache", "X-Accel-Buffering": "no"},
    )


@router.get("/{job_id}/report", response_class=HTMLResponse, responses=_PROBLEMS)
async def get_report(job: JobDependency, thumbnails: bool = False) -> HTMLResponse:
    """Returns a benchmark as a page to look at and to show; it reloads itself until the end.

    `thumbnails=true` adds the 24 mistakes that each model was most sure of, as pictures.
    """
    page = await run_in_threadpool(render_report, job, thumbnails)
    return HTMLResponse(page, headers={"Cache-Control": "no-store"})


async def _events(job: Job) -> AsyncIterator[str]:
    ended = False
    while not ended:
        ended = job.ended
        name = "finished" if ended else "progress"
        yield f"event: {name}\ndata: {job.state.model_dump_json(exclude={'result'})}\n\n"
        if not ended:
            await asyncio.sleep(EVENT_SECONDS)


async def _on_dataset(request: Request, benchmarks: Benchmarks, take: Take) -> Job:
    body = await read_json(request, MAX_JSON_BYTES, take)
    return benchmarks.on_dataset(BenchmarkRequest.model_validate_json(body or b"{}"))


async def _on_upload(request: Request, benchmarks: Benchmarks, take: Take) -> Job:
    parts = await read_form(request, benchmarks.max_upload_bytes, take, UPLOAD_SECONDS)
    fields: dict[str, Any] = {}
    for name, content in parts:
        if name == FIELD:
            continue
        if name not in UploadOptions.model_fields:
            raise errors.InvalidParameter(f"{name[:40]}: is an unknown option")
        value = read_text(name, content)
        if name == "compare":  # once for each name, or once with commas
            fields.setdefault(name, []).extend(part.strip() for part in value.split(","))
        elif name in fields:
            raise errors.InvalidParameter(f"{name}: appears twice")
        else:
            fields[name] = value
    options = UploadOptions.model_validate(fields)
    return await benchmarks.on_upload(the_file(parts), options)
