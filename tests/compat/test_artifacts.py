"""Artifacts over HTTP: what goes in comes out, in whole and in part, and nothing hostile gets anywhere."""

from __future__ import annotations

import http.client
import os
import socket
import time
from pathlib import Path
from typing import Any
from urllib.parse import quote

import httpx
import pytest
from noria_server import Wire, missing, refused, serving

TREE = "/api/2.0/mlflow-artifacts/artifacts"
HOSTILE = (
    "..", "../x", "a/../b", "a/..", "./a", "a/./b", ".", "/etc/passwd", "//etc/passwd", "a//b", "a\\b", "..\\x", "C:/x",
    "c:x", "run/artifacts/C:/x", "run/C:x", "a\0b", "a\nb", "a\x7fb", "a\u202eb", "a\u200bb", "a\u00adb",
    "a\U000e0041b", "%2e%2e/x", "%252e%252e/x", "%25252e%25252e/x",
    "a%2f..%2fb", "%2fetc/passwd", "a%5cb", "a%00b", "x" * 5_000, "x/" * 3_000 + "x", ". ./x".replace(" ", "") + "/..",
    "\x01uploads/x", " ..", ".. /x",
)  # fmt: skip


def put(wire: Wire, path: str, data: bytes) -> Any:
    return wire.http.put(f"{TREE}/{quote(path, safe='/')}", content=data)


def everything(wire: Wire, folder: str = "") -> dict[str, int]:
    """Every file of the tree, with its size."""
    found: dict[str, int] = {}
    listed = wire.http.get(TREE, params={"path": folder} if folder else {}).json().get("files", [])
    for one in listed:
        path = f"{folder}/{one['path']}" if folder else one["path"]
        if one["is_dir"]:
            found |= everything(wire, path)
        else:
            found[path] = one["file_size"]
    return found


@pytest.mark.parametrize("size", [0, 1, 70_000, 9_000_000])
def test_a_file_comes_back_as_it_went(wire: Wire, size: int) -> None:
    data = os.urandom(size)
    path = f"sizes/{size}/ünïcode & 100%.bin"
    assert put(wire, path, data).status_code == 200
    got = wire.http.get(f"{TREE}/{quote(path)}")
    assert got.content == data
    assert got.headers["content-type"] == "application/octet-stream"
    assert got.headers["content-disposition"].startswith("attachment")
    assert got.headers["x-content-type-options"] == "nosniff"
    assert "sandbox" in got.headers["content-security-policy"]
    head = wire.http.head(f"{TREE}/{quote(path)}")
    assert (head.content, head.headers["content-length"]) == (b"", str(size))


def test_parts_of_a_file(wire: Wire) -> None:
    data = os.urandom(3_000_000)
    put(wire, "ranges/f", data)
    tag = wire.http.get(f"{TREE}/ranges/f").headers["etag"]

    def get(asked: str, **more: str) -> Any:
        return wire.http.get(f"{TREE}/ranges/f", headers={"Range": asked, **more})

    for asked, start, end in (
        ("bytes=0-0", 0, 1),
        ("bytes=100-2099999", 100, 2_100_000),
        ("bytes=2999990-", 2_999_990, 3_000_000),
        ("bytes=-5", 2_999_995, 3_000_000),
        ("bytes=0-99999999", 0, 3_000_000),
    ):
        got = get(asked)
        assert (got.status_code, got.headers["content-range"]) == (206, f"bytes {start}-{end - 1}/3000000")
        assert got.content == data[start:end]
    assert get("bytes=0-9", **{"If-Range": tag}).status_code == 206
    assert get("bytes=0-9", **{"If-Range": '"other"'}).status_code == 200
    for odd in ("bytes=9-0", "lines=0-9", "bytes=0-1,3-4", "bytes=-", "bytes=x-y"):
        assert get(odd).status_code == 200
    for outside in ("bytes=3000000-", "bytes=-0"):
        assert get(outside).status_code == 416


def test_listings_of_a_run_and_of_the_tree(wire: Wire) -> None:
    run = wire.run(wire.experiment())
    root = wire.of(run)["info"]["artifact_uri"]
    place = root.removeprefix("mlflow-artifacts:/")
    for name in ("a.txt", "deep/b.txt", "deep/er/c.txt"):
        assert put(wire, f"{place}/{name}", name.encode()).status_code == 200
    listed = wire.reads("/artifacts/list", run_id=run)
    assert listed["root_uri"] == root
    assert listed["files"] == [
        {"path": "a.txt", "is_dir": False, "file_size": 5},
        {"path": "deep", "is_dir": True},
    ]
    listing = "/api/2.0/mlflow/artifacts/list"
    inner = wire.http.get(listing, params={"run_id": run, "path": "deep/"}).json()["files"]
    assert [one["path"] for one in inner] == ["deep/b.txt", "deep/er"]
    assert wire.http.get(listing, params={"run_id": run, "path": "a.txt"}).json()["files"] == []
    assert wire.http.get("/get-artifact", params={"run_id": run, "path": "deep/b.txt"}).content == b"deep/b.txt"
    sent = wire.http.post("/ajax-api/2.0/mlflow/upload-artifact", params={"run_uuid": run, "path": "d"}, content=b"d")
    assert sent.status_code == 200
    assert wire.http.get("/get-artifact", params={"run_uuid": run, "path": "d"}).content == b"d"


@pytest.mark.parametrize("path", HOSTILE)
def test_a_hostile_path_is_refused_however_it_is_spelled(wire: Wire, path: str) -> None:
    before = everything(wire)
    run = wire.run()
    for spelled in {quote(path, safe="/"), quote(path, safe=""), quote(quote(path, safe=""), safe="")}:
        for method in ("PUT", "GET", "DELETE"):
            status, said = raw(wire, method, f"{TREE}/{spelled}", b"x" if method == "PUT" else None)
            assert 400 <= status < 500, (method, spelled, said)
    for address, query in (
        (TREE, {"path": path}),
        ("/api/2.0/mlflow/artifacts/list", {"run_id": run, "path": path}),
        ("/get-artifact", {"run_id": run, "path": path}),
    ):
        answer = wire.http.get(address, params=query)
        assert 400 <= answer.status_code < 500 or answer.json().get("files") == [], (address, path, answer.text)
    assert everything(wire) == before


def raw(wire: Wire, method: str, path: str, body: bytes | None = None) -> tuple[int, bytes]:
    """A request whose path nobody tidies up on the way."""
    connection = http.client.HTTPConnection("127.0.0.1", wire.http.base_url.port or 80, timeout=30)
    try:
        connection.putrequest(method, path, skip_accept_encoding=True)
        if body is not None:
            connection.putheader("Content-Length", str(len(body)))
        connection.endheaders(body)
        answer = connection.getresponse()
        return answer.status, answer.read()
    finally:
        connection.close()


def test_a_path_in_bytes_that_are_no_text_is_refused(wire: Wire) -> None:
    for method in ("PUT", "GET", "DELETE"):
        assert raw(wire, method, f"{TREE}/a%ff%fe", b"x" if method == "PUT" else None)[0] == 400


@pytest.mark.parametrize("framing", ["Content-Length: 9000000", "Transfer-Encoding: chunked"])
def test_an_upload_cut_off_leaves_nothing(wire: Wire, framing: str) -> None:
    before = everything(wire)
    with socket.create_connection(("127.0.0.1", wire.http.base_url.port or 80)) as cut:
        cut.sendall(f"PUT {TREE}/cut/off HTTP/1.1\r\nHost: 127.0.0.1\r\n{framing}\r\n\r\n".encode())
        if "chunked" in framing:
            cut.sendall(b"%x\r\n" % 5_000_000 + b"x" * 5_000_000 + b"\r\n")
        else:
            cut.sendall(b"x" * 5_000_000)
    missing(wire.http.get(f"{TREE}/cut/off"))
    assert everything(wire) == before
    store = wire.log.parent / "store" / "blobs" / "incoming"
    for _ in range(100):
        if not list(store.iterdir()):
            break
        time.sleep(0.05)
    assert list(store.iterdir()) == []


def test_files_and_folders_do_not_take_each_others_place(wire: Wire) -> None:
    put(wire, "place/file", b"1")
    put(wire, "place/folder/in", b"2")
    for path in ("place/file/x", "place/folder"):
        refused(put(wire, path, b"3"), code="RESOURCE_ALREADY_EXISTS")
    assert put(wire, "place/file", b"new").status_code == 200
    assert wire.http.get(f"{TREE}/place/file").content == b"new"


def test_removing_takes_a_file_or_a_folder_and_never_the_root(wire: Wire) -> None:
    for path in ("gone/a", "gone/b/c", "gonefar", "gone-"):
        put(wire, path, b"x")
    assert wire.http.delete(f"{TREE}/gone/a").status_code == 200
    missing(wire.http.get(f"{TREE}/gone/a"))
    missing(wire.http.delete(f"{TREE}/gone/a"))
    assert wire.http.delete(f"{TREE}/gone").status_code == 200
    assert {"gonefar", "gone-"} <= set(everything(wire))
    before = everything(wire)
    for root in ("", "/", "//", "/.", "/%2e", "/..", "/%2f"):
        assert raw(wire, "DELETE", TREE + root)[0] in (400, 404, 405), root
    assert everything(wire) == before


def test_a_large_file_in_parts(wire: Wire) -> None:
    parts = [os.urandom(5_000_000), os.urandom(5_000_000), os.urandom(7)]
    base = "/api/2.0/mlflow-artifacts/mpu"
    root = wire.of(wire.run())["info"]["artifact_uri"].removeprefix("mlflow-artifacts:/")
    begun = wire.http.post(f"{base}/create/{root}/f", json={"path": "/tmp/blob.bin", "num_parts": 3}).json()
    assert [one["part_number"] for one in begun["credentials"]] == [1, 2, 3]
    sent = []
    for one, data in reversed(list(zip(begun["credentials"], parts, strict=True))):
        answer = wire.http.put(one["url"], content=data)
        sent.append({"part_number": one["part_number"], "etag": answer.headers["etag"], "url": one["url"]})
    whole = {"path": "blob.bin", "upload_id": begun["upload_id"], "parts": sent}
    refused(wire.http.post(f"{base}/complete/{root}/f", json={**whole, "parts": sent[1:]}), "Part 3 was sent")
    bad = [{**sent[0], "etag": '"x"'}, *sent[1:]]
    refused(wire.http.post(f"{base}/complete/{root}/f", json={**whole, "parts": bad}), "not the one that was sent")
    missing(wire.http.get(f"{TREE}/{root}/f/blob.bin"))
    assert wire.http.post(f"{base}/complete/{root}/f", json=whole).status_code == 200
    assert wire.http.get(f"{TREE}/{root}/f/blob.bin").content == b"".join(parts)
    missing(wire.http.post(f"{base}/complete/{root}/f", json=whole))
    given_up = wire.http.post(f"{base}/create/{root}/g", json={"path": "b", "num_parts": 1}).json()
    stop = {"path": "b", "upload_id": given_up["upload_id"]}
    assert wire.http.post(f"{base}/abort/{root}/g", json=stop).status_code == 200
    missing(wire.http.put(given_up["credentials"][0]["url"], content=b"x"))
    assert not any("uploads" in path for path in everything(wire))


def test_parts_are_refused_where_they_would_go_astray(wire: Wire) -> None:
    base = "/api/2.0/mlflow-artifacts/mpu"
    for place in ("", "/deep/er", "/large/artifacts"):  # as clients up to 2.10 ask: without the run's root
        answer = wire.http.post(f"{base}/create{place}", json={"path": "blob.bin", "num_parts": 3})
        refused(answer, "Multipart upload is not supported", code="NOT_IMPLEMENTED", status=501)
    root = wire.of(wire.run())["info"]["artifact_uri"].removeprefix("mlflow-artifacts:/")
    begun = wire.http.post(f"{base}/create/{root}", json={"path": "b", "num_parts": 1}).json()
    place = begun["credentials"][0]["url"].rpartition("/")[0]
    for number in ("0", "01", "10001", "0000000019999999", "000000001" + "9" * 5_000, "x", "-1", "\u0661"):
        refused(wire.http.put(f"{place}/{quote(number)}", content=b"x"), "part number")
    stop = {"path": "b", "upload_id": begun["upload_id"]}
    assert wire.http.post(f"{base}/abort/{root}", json=stop).status_code == 200


def test_parts_sent_before_a_restart_are_there_after_it(tmp_path: Path) -> None:
    base, parts, sent = "/api/2.0/mlflow-artifacts/mpu", [os.urandom(3_000_000), b"the rest"], []
    root = f"0/{'a' * 32}/artifacts"
    for number, data in enumerate(parts, start=1):
        with serving(str(tmp_path / "store"), tmp_path / "log") as url, httpx.Client(base_url=url, timeout=60) as http:
            if number == 1:
                begun = http.post(f"{base}/create/{root}", json={"path": "f", "num_parts": 2}).json()
            place = f"{base}/part/{begun['upload_id']}/{number}"
            sent.append({"part_number": number, "etag": http.put(place, content=data).headers["etag"]})
            if number == 2:
                whole = {"path": "f", "upload_id": begun["upload_id"], "parts": sent}
                assert http.post(f"{base}/complete/{root}", json=whole).status_code == 200
                assert http.get(f"{TREE}/{root}/f").content == b"".join(parts)


def test_unknown_runs_and_versions(wire: Wire) -> None:
    missing(wire.get("/artifacts/list", run_id="f" * 32))
    missing(wire.http.get("/get-artifact", params={"run_id": "f" * 32, "path": "x"}))
    assert raw(wire, "GET", "//model-versions/get-artifact?name=no&version=1&path=x")[0] == 404
    refused(wire.http.get("/model-versions/get-artifact", params={"name": "no", "version": "x", "path": "x"}))
    answer = wire.http.get("/ajax-api/2.0/mlflow/logged-models/m-1/artifacts/files?artifact_file_path=x")
    missing(answer)
