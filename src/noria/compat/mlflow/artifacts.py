"""Artifacts on MLflow's wire: the tree of the server's proxy, streamed to and from blobs.

Bodies are hashed and written as they come, in pieces, off the event loop; what was cut off or is not as long as it said
leaves nothing.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import Iterator
from typing import Any
from urllib.parse import quote

import msgspec

from noria.compat.mlflow.app import read_fields
from noria.compat.mlflow.errors import WireError, not_found
from noria.compat.mlflow.fields import integer, many, struct, text
from noria.compat.mlflow.routing import Need, Params, Request, Route, Services
from noria.core.ids import new_id
from noria.errors import CorruptBlob, NotFound, RequestError
from noria.records.registry import LoggedModel
from noria.register import registry
from noria.store.ports import BlobWriter
from noria.store.tracking import Artifact, TrackingTransaction
from noria.track import verbs
from noria.track.artifacts import clean_path, find_artifact

__all__ = ["PROXY", "ROUTES", "place_of"]

PROXY = "mlflow-artifacts:/"
_BASE = "/api/2.0/mlflow-artifacts"
_PIECE = 4 * 2**20
_MOST_PARTS = 10_000
_RANGE = re.compile(r"bytes=(\d{0,18})-(\d{0,18})")
_UPLOADS = "\x01uploads"  # no client can name it: its paths hold no control character
_PART_NUMBER = re.compile(r"[1-9][0-9]{0,5}")
_ROOT = re.compile(r"(.*/)?(m-)?[0-9a-f]{32}/artifacts(/.*)?")
_NO_PARTS = "Multipart upload is not supported for the current artifact repository"
_UPLOAD_ID = re.compile(r"[0-9a-f]{32}")


def _clean(path: str, *, folder: bool = False) -> str:
    try:
        return clean_path(path, folder=folder)
    except RequestError:
        raise WireError("INVALID_PARAMETER_VALUE", "Invalid path") from None  # the words clients look for


def place_of(uri: str) -> str:
    """Where in the tree an artifact address of a run or model leads.

    Raises:
        WireError: it leads elsewhere.
    """
    if not uri.startswith(PROXY):
        raise WireError("INVALID_PARAMETER_VALUE", "These artifacts are kept elsewhere, not by this server.")
    return _clean(uri.removeprefix(PROXY).lstrip("/"), folder=True)


def _listing(services: Services, folder: str, prefix: str = "") -> list[dict[str, Any]]:
    with services.tracking.read() as reader:
        found = reader.folder(folder)
    start = f"{prefix}/" if prefix else ""
    return [
        {"path": f"{start}{name}", "is_dir": True}
        if one is None
        else {"path": f"{start}{name}", "is_dir": False, "file_size": one.size}
        for name, one in found
        if not name.startswith("\x01")
    ]


def list_tree(services: Services, params: Params) -> dict[str, Any]:
    """What is in a folder of the tree."""
    return {"files": _listing(services, _clean(params.get("path", ""), folder=True))}


def list_run(services: Services, params: Params) -> dict[str, Any]:
    """What is in a folder of a run."""
    run = params.get("run_id") or params.get("run_uuid") or ""
    path = _clean(params.get("path", ""), folder=True)
    with services.tracking.read() as reader:
        info = verbs.run_of(reader, run)
    root = place_of(info.artifacts)
    return {"root_uri": info.artifacts, "files": _listing(services, f"{root}/{path}".rstrip("/"), path)}


# -- uploads


async def _receive(request: Request, writer: BlobWriter) -> int:
    """Take the body into a blob, a piece being hashed and written while the next comes; returns its length."""
    loop = asyncio.get_running_loop()
    size, held = 0, bytearray()
    busy: asyncio.Future[None] | None = None
    try:
        while True:
            message = await request.receive()
            if message["type"] == "http.disconnect":
                raise RequestError("The upload was cut off.")
            held += message.get("body", b"")
            more = message.get("more_body", False)
            if len(held) >= _PIECE or not more:
                if busy is not None:
                    await busy
                size += len(held)
                busy = loop.run_in_executor(None, writer.write, held)
                held = bytearray()
            if not more:
                break
        await busy  # type: ignore[misc]
        busy = None
    finally:
        if busy is not None:
            await asyncio.wait([busy])
    stated = request.headers.get("content-length")
    if stated is not None and stated.isdigit() and int(stated) != size:
        raise RequestError(f"The body has {size} bytes, not the {stated[:20]} it said.")
    return size


async def _stored(request: Request) -> tuple[str, int]:
    """The body as a blob."""
    if request.headers.get("content-encoding", "identity") != "identity":
        raise WireError("INVALID_PARAMETER_VALUE", "Send artifacts as they are, without Content-Encoding.", 415)
    loop = asyncio.get_running_loop()
    writer = await loop.run_in_executor(None, request.services.blobs.writer)
    try:
        await _receive(request, writer)
        return await loop.run_in_executor(None, writer.commit)
    except BaseException:
        writer.abort()
        raise


async def upload(request: Request) -> None:
    """Keep a file."""
    path = _clean(request.path["artifact_path"])
    digest, size = await _stored(request)
    made = Artifact(path, digest, size, request.services.now_ms())
    await asyncio.wrap_future(request.services.tracking.submit(lambda transaction: transaction.put_artifact(made)))
    await _json(request, b"{}")


async def _json(request: Request, body: bytes, *more: tuple[bytes, bytes]) -> None:
    headers = [(b"content-type", b"application/json"), (b"content-length", b"%d" % len(body)), *more]
    await request.send({"type": "http.response.start", "status": 200, "headers": headers})
    await request.send({"type": "http.response.body", "body": body})


# -- downloads


async def download(request: Request) -> None:
    """Give a file of the tree."""
    await _send_file(request, _clean(request.path["artifact_path"]))


async def download_of_run(request: Request) -> None:
    """Give a file of a run, as MLflow's own pages ask for it."""
    run = _one(request, "run_id") or _one(request, "run_uuid")
    path = _clean(_one(request, "path"))

    def find() -> str:
        with request.services.tracking.read() as reader:
            return place_of(verbs.run_of(reader, run).artifacts)

    root = await asyncio.get_running_loop().run_in_executor(None, find)
    await _send_file(request, f"{root}/{path}")


async def download_of_version(request: Request) -> None:
    """Give a file of a registered model's version."""
    name, number, path = _one(request, "name"), _one(request, "version"), _clean(_one(request, "path"))
    if not number.isascii() or not number.isdigit() or len(number) > 18:
        raise RequestError("Invalid value for parameter 'version' supplied: it must be a number.")

    def find() -> str:
        with request.services.ledger.read() as db:
            return place_of(registry.version(db, name, int(number)).location)

    root = await asyncio.get_running_loop().run_in_executor(None, find)
    await _send_file(request, f"{root}/{path}")


async def download_of_model(request: Request) -> None:
    """Give a file of a logged model."""
    path = _one(request, "artifact_file_path")
    if not path:
        raise WireError("BAD_REQUEST", 'Request must include the "artifact_file_path" query parameter.')
    cleaned, model = _clean(path), request.path["model_id"]

    def find() -> str:
        with request.services.ledger.read() as db:
            found = db.find(LoggedModel, id=model)
        if found is None or found.deleted is not None:
            raise not_found(f"Logged model with ID '{model[:80]}' not found.")
        return place_of(found.artifacts)

    root = await asyncio.get_running_loop().run_in_executor(None, find)
    await _send_file(request, f"{root}/{cleaned}")


async def upload_to_run(request: Request) -> None:
    """Keep a file of a run, as MLflow's own pages send it."""
    run, path = _one(request, "run_uuid"), _one(request, "path")
    for name, value in (("run_uuid", run), ("path", path)):
        if not value:
            raise WireError("INVALID_PARAMETER_VALUE", f"Request must specify {name}.")
    cleaned = _clean(path)

    def find() -> str:
        with request.services.tracking.read() as reader:
            return place_of(verbs.active_run(reader, run).artifacts)

    root = await asyncio.get_running_loop().run_in_executor(None, find)
    digest, size = await _stored(request)
    if not size:
        raise WireError("INVALID_PARAMETER_VALUE", "Request must specify data.")
    made = Artifact(f"{root}/{cleaned}", digest, size, request.services.now_ms())
    await asyncio.wrap_future(request.services.tracking.submit(lambda transaction: transaction.put_artifact(made)))
    await _json(request, b"{}")


def _one(request: Request, name: str) -> str:
    return request.query.get(name, [""])[-1]


def _disposition(path: str) -> bytes:
    name = path.rpartition("/")[2]
    plain = re.sub(r"[^A-Za-z0-9._-]+", "_", name).lstrip(".") or "artifact"
    return f"attachment; filename=\"{plain}\"; filename*=UTF-8''{quote(name, safe='')}".encode()


async def _send_file(request: Request, path: str) -> None:
    services, loop = request.services, asyncio.get_running_loop()

    def find() -> Artifact:
        with services.tracking.read() as reader:
            return find_artifact(reader, path)

    found = await loop.run_in_executor(None, find)
    if not services.blobs.has(found.digest):
        raise NotFound("The artifact's bytes are not in the store any more.")
    tag = f'"{found.digest.partition(":")[2]}"'
    start, end, status = 0, found.size, 200
    asked = request.headers.get("range")
    if asked is not None and request.headers.get("if-range", tag) == tag:
        span = _span(asked, found.size)
        if span is not None:
            (start, end), status = span, 206
    headers = [
        (b"content-type", b"application/octet-stream"),
        (b"content-length", b"%d" % (end - start)),
        (b"content-disposition", _disposition(path)),
        (b"x-content-type-options", b"nosniff"),
        (b"content-security-policy", b"default-src 'none'; sandbox"),
        (b"accept-ranges", b"bytes"),
        (b"etag", tag.encode()),
    ]
    if status == 206:
        headers.append((b"content-range", b"bytes %d-%d/%d" % (start, end - 1, found.size)))
    pieces = services.blobs.read(found.digest, start, end)
    # the first piece before the answer begins: what is missing or damaged can still be told
    first = await loop.run_in_executor(None, _next, pieces) if end > start and request.method != "HEAD" else None
    await request.send({"type": "http.response.start", "status": status, "headers": headers})
    ahead: asyncio.Future[bytes | None] | None = None
    try:
        while first is not None:
            ahead = loop.run_in_executor(None, _next, pieces)
            await request.send({"type": "http.response.body", "body": first, "more_body": True})
            first = await ahead
            ahead = None
        await request.send({"type": "http.response.body", "body": b""})
    except CorruptBlob as error:
        # the length is out: only a broken connection can say that the bytes are not to be trusted
        raise ConnectionAbortedError(str(error)) from error
    finally:
        if ahead is not None:
            await asyncio.wait([ahead])
        pieces.close()  # type: ignore[attr-defined]


def _next(pieces: Iterator[bytes]) -> bytes | None:
    return next(pieces, None)


def _span(asked: str, size: int) -> tuple[int, int] | None:
    """The bytes of a single range; None if the whole is to be given.

    Raises:
        WireError: nothing of the file is in the range.
    """
    match = _RANGE.fullmatch(asked.strip())
    if match is None or not (match[1] or match[2]):
        return None
    if match[1]:
        start, end = int(match[1]), min(int(match[2]) + 1, size) if match[2] else size
        if match[2] and int(match[2]) < start:
            return None
    else:
        start, end = max(0, size - int(match[2])), size
    if start >= size or start >= end:
        raise WireError("INVALID_PARAMETER_VALUE", f"The range is outside the file's {size} bytes.", 416)
    return start, end


# -- removal


def remove(services: Services, params: Params) -> Any:
    """Remove a file or a folder of the tree."""
    path = _clean(params["artifact_path"], folder=True)
    if not path:
        raise RequestError("Invalid path: the root cannot be removed.")

    def change(transaction: TrackingTransaction) -> dict[str, Any]:
        if not transaction.remove_artifacts(path):
            raise not_found(f"There is no artifact '{path[:80]}'.")
        return {}

    return change


# -- uploads in parts: a part is a blob named in the table until the whole is made


async def begin_parts(request: Request) -> None:
    """Where to send the parts of a large file: addresses of this server, as the client calls it."""
    services, params = request.services, await read_fields(request, _BEGIN)
    if not _ROOT.fullmatch(_whole_path({**request.path, **params}).rpartition("/")[0]):
        # old clients leave out where the run's artifacts are; at these words they send the file whole, to its place
        raise WireError("NOT_IMPLEMENTED", f"{_NO_PARTS}: only for artifacts of a run or a logged model.")
    upload_id = new_id()
    empty = await asyncio.get_running_loop().run_in_executor(None, services.blobs.put, b"")
    made = Artifact(f"{_UPLOADS}/{upload_id}/0", empty, 0, services.now_ms())
    await asyncio.wrap_future(services.tracking.submit(lambda transaction: transaction.put_artifact(made)))
    base = f"http://{request.headers.get('host', '')}{_BASE}/mpu/part/{upload_id}"
    parts = [{"url": f"{base}/{n}", "part_number": n, "headers": {}} for n in range(1, params["num_parts"] + 1)]
    await _json(request, msgspec.json.encode({"upload_id": upload_id, "credentials": parts}))


def _whole_path(params: Params) -> str:
    folder = _clean(params.get("artifact_path", ""), folder=True)
    name = _clean(params["path"].rpartition("/")[2])
    return f"{folder}/{name}" if folder else name


def _upload_folder(services: Services, upload_id: str) -> str:
    folder = f"{_UPLOADS}/{upload_id}"
    if not _UPLOAD_ID.fullmatch(upload_id):
        raise not_found("There is no such upload.")
    with services.tracking.read() as reader:
        if reader.artifact(f"{folder}/0") is None:
            raise not_found("There is no such upload: it was finished or given up.")
    return folder


async def take_part(request: Request) -> None:
    """Keep one part."""
    loop = asyncio.get_running_loop()
    if not _PART_NUMBER.fullmatch(request.path["number"]) or int(request.path["number"]) > _MOST_PARTS:
        raise RequestError("Invalid part number.")
    number = int(request.path["number"])
    folder = await loop.run_in_executor(None, _upload_folder, request.services, request.path["upload_id"])
    digest, size = await _stored(request)
    made = Artifact(f"{folder}/{number}", digest, size, request.services.now_ms())
    await asyncio.wrap_future(request.services.tracking.submit(lambda transaction: transaction.put_artifact(made)))
    await _json(request, b"{}", (b"etag", f'"{digest.partition(":")[2]}"'.encode()))


def finish_parts(services: Services, params: Params) -> dict[str, Any]:
    """Make the file of its parts."""
    path = _whole_path(params)
    folder = _upload_folder(services, params["upload_id"])
    parts = sorted(params["parts"], key=lambda part: part["part_number"])
    with services.tracking.read() as reader:
        sent = {int(name) for name, _ in reader.folder(folder)} - {0}
    left_out = sent - {part["part_number"] for part in parts}
    if left_out:
        raise RequestError(f"Part {min(left_out)} was sent and is missing in the list.")
    writer = services.blobs.writer()
    try:
        for expected, part in enumerate(parts, start=1):
            with services.tracking.read() as reader:
                found = reader.artifact(f"{folder}/{part['part_number']}")
            if found is None or part["part_number"] != expected:
                raise RequestError(f"Part {expected} is missing.")
            if part["etag"].strip('"') != found.digest.partition(":")[2]:
                raise RequestError(f"Part {expected} is not the one that was sent.")
            for piece in services.blobs.read(found.digest):
                writer.write(piece)
        digest, size = writer.commit()
    except BaseException:
        writer.abort()
        raise
    made = Artifact(path, digest, size, services.now_ms())

    def change(transaction: TrackingTransaction) -> None:
        transaction.put_artifact(made)
        transaction.remove_artifacts(folder)

    services.tracking.write(change)
    return {}


def give_up_parts(services: Services, params: Params) -> dict[str, Any]:
    """Forget the parts."""
    folder = _upload_folder(services, params["upload_id"])
    services.tracking.write(lambda transaction: transaction.remove_artifacts(folder))
    return {}


_PART = struct({"part_number": integer(required=True, low=1), "etag": text(required=True), "url": text()})
_TREE = f"{_BASE}/artifacts"
_BEGIN = {"path": text(required=True), "num_parts": integer(default=1, low=1, high=_MOST_PARTS)}
_FINISH = {
    "path": text(required=True),
    "upload_id": text(required=True),
    "parts": many(_PART, required=True, limit=_MOST_PARTS),
}
_GIVE_UP = {"path": text(required=True), "upload_id": text(required=True)}
_NO_PRESIGNING = "Addresses that carry their own permission are not given out: artifacts go through the server."

ROUTES = (
    Route("GET", _TREE, Need.read, {"path": text()}, answer=list_tree),
    Route("GET", f"{_TREE}/{{artifact_path:path}}", Need.read, stream=download),
    Route("PUT", f"{_TREE}/{{artifact_path:path}}", Need.write, stream=upload),
    Route("DELETE", f"{_TREE}/{{artifact_path:path}}", Need.delete, change=remove),
    *(
        route
        for path in ("", "/{artifact_path:path}")
        for route in (
            Route("POST", f"{_BASE}/mpu/create{path}", Need.write, _BEGIN, stream=begin_parts),
            Route("POST", f"{_BASE}/mpu/complete{path}", Need.write, _FINISH, answer=finish_parts),
            Route("POST", f"{_BASE}/mpu/abort{path}", Need.write, _GIVE_UP, answer=give_up_parts),
        )
    ),
    Route("PUT", f"{_BASE}/mpu/part/{{upload_id}}/{{number}}", Need.write, stream=take_part),
    Route("GET", f"{_BASE}/presigned/{{artifact_path:path}}", Need.read, refused=_NO_PRESIGNING),
    Route("POST", "/api/2.0/mlflow/artifacts/presigned-download-url", Need.read, refused=_NO_PRESIGNING),
    Route("POST", "/api/2.0/mlflow/artifacts/presigned-upload-url", Need.write, refused=_NO_PRESIGNING),
    Route(
        "GET",
        "/api/2.0/mlflow/artifacts/list",
        Need.read,
        {"run_id": text(), "run_uuid": text(), "path": text(), "page_token": text()},
        answer=list_run,
    ),
    Route("GET", "/get-artifact", Need.read, stream=download_of_run),
    Route("GET", "/model-versions/get-artifact", Need.read, stream=download_of_version),
    Route("GET", "/api/2.0/mlflow/logged-models/{model_id}/artifacts/files", Need.read, stream=download_of_model),
    Route("POST", "/api/2.0/mlflow/upload-artifact", Need.write, stream=upload_to_run),
)
