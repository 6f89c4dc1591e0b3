"""Blobs on a real S3 server: the shipped suite, and what goes wrong with servers."""

from __future__ import annotations

import re
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from noria.core.ids import new_id
from noria.errors import MissingExtra, NotFound, StoreError
from noria.store.object_store import ObjectBlobs
from noria.testing.contracts import BlobsContract

sys.path.insert(0, str(Path(__file__).parent))

from s3 import executable, serving

pytest.importorskip("obstore")
pytestmark = [
    pytest.mark.skipif(executable() is None, reason="SeaweedFS is not installed"),
    pytest.mark.xdist_group("s3"),
]


@pytest.fixture(scope="module")
def address(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A bucket."""
    import obstore
    from obstore.exceptions import BaseError
    from obstore.store import S3Store

    with pytest.MonkeyPatch.context() as patch, serving(tmp_path_factory.mktemp("s3")) as variables:
        for name, value in variables.items():
            patch.setenv(name, value)
        end = time.monotonic() + 180
        while True:
            try:
                make_bucket(variables)
                obstore.put(S3Store("bucket", client_options={"allow_http": True}), "ready", b"yes")
                break
            except (OSError, BaseError):
                assert time.monotonic() < end
                time.sleep(0.3)
        yield "s3://bucket"


def make_bucket(variables: dict[str, str]) -> None:
    """Make the bucket, by a signed request (obstore makes none)."""
    import hashlib
    import hmac
    import urllib.error
    import urllib.request
    from datetime import UTC, datetime
    from urllib.parse import urlsplit

    now = datetime.now(UTC).strftime("%Y%m%dT%H%M%SZ")
    host, day, empty = urlsplit(variables["AWS_ENDPOINT_URL"]).netloc, now[:8], hashlib.sha256(b"").hexdigest()
    signed = "host;x-amz-content-sha256;x-amz-date"
    request = f"PUT\n/bucket\n\nhost:{host}\nx-amz-content-sha256:{empty}\nx-amz-date:{now}\n\n{signed}\n{empty}"
    scope = f"{day}/{variables['AWS_REGION']}/s3/aws4_request"
    told = f"AWS4-HMAC-SHA256\n{now}\n{scope}\n{hashlib.sha256(request.encode()).hexdigest()}"
    key = f"AWS4{variables['AWS_SECRET_ACCESS_KEY']}".encode()
    for part in scope.split("/"):
        key = hmac.new(key, part.encode(), hashlib.sha256).digest()
    signature = hmac.new(key, told.encode(), hashlib.sha256).hexdigest()
    headers = {
        "x-amz-date": now,
        "x-amz-content-sha256": empty,
        "Authorization": f"AWS4-HMAC-SHA256 Credential={variables['AWS_ACCESS_KEY_ID']}/{scope}, "
        f"SignedHeaders={signed}, Signature={signature}",
    }
    made = urllib.request.Request(f"{variables['AWS_ENDPOINT_URL']}/bucket", method="PUT", headers=headers)
    try:
        urllib.request.urlopen(made, timeout=10).close()
    except urllib.error.HTTPError as error:
        with error:
            if error.code != 409:  # it is there
                raise


class TestS3Blobs(BlobsContract):
    @pytest.fixture
    def blobs(self, address: str) -> ObjectBlobs:
        return ObjectBlobs(f"{address}/{new_id()}")


def test_a_wrong_secret_is_said_without_telling_it(address: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "not-the-secret")
    with pytest.raises(StoreError) as caught:
        ObjectBlobs(f"{address}/x").put(b"x")
    assert "not-the-secret" not in str(caught.value)


def test_a_server_that_is_away_is_said(monkeypatch: pytest.MonkeyPatch, address: str) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:9")
    blobs = ObjectBlobs(f"{address}/x")
    with pytest.raises(StoreError) as caught:
        blobs.put(b"x")
    assert not isinstance(caught.value, NotFound)


def test_a_file_of_many_parts(address: str) -> None:
    blobs = ObjectBlobs(f"{address}/{new_id()}")
    writer, piece = blobs.writer(), bytes(range(256)) * 4096
    for _ in range(40):
        writer.write(piece)
    digest, size = writer.commit()
    assert (size, blobs.size(digest)) == (40 * len(piece), 40 * len(piece))
    assert sum(map(len, blobs.read(digest))) == size  # checked as it is read
    assert b"".join(blobs.read(digest, 9_000_000, 9_000_512)) == (piece * 10)[9_000_000:9_000_512]


def test_a_package_that_is_not_there_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "obstore", None)
    with pytest.raises(MissingExtra, match=r"noria\[s3\]"):
        ObjectBlobs("s3://bucket")


def test_an_address_that_is_none_is_said() -> None:
    with pytest.raises(StoreError, match="object store"):
        ObjectBlobs("nothing://at/all")


def test_a_server_keeps_its_artifacts_in_the_bucket(address: str, tmp_path: Path) -> None:
    import urllib.request

    command = [sys.executable, "-m", "noria.cli", "server", "--store", str(tmp_path / "store"), "--port", "0"]
    prefix, data = new_id(), b"weights" * 1_000_000
    server = subprocess.Popen([*command, "--blobs", f"{address}/{prefix}"], stderr=subprocess.PIPE, text=True)
    assert server.stderr is not None
    try:
        said = server.stderr.readline() + server.stderr.readline()
        found = re.search(r"MLFLOW_TRACKING_URI=(http://\S+)", said)
        assert found is not None, said
        place = f"{found[1]}/api/2.0/mlflow-artifacts/artifacts/0/model/weights.bin"
        urllib.request.urlopen(urllib.request.Request(place, data=data, method="PUT"), timeout=60).close()
        with urllib.request.urlopen(place, timeout=60) as answer:
            assert answer.read() == data
        part = urllib.request.Request(place, headers={"Range": "bytes=7-13"})
        with urllib.request.urlopen(part, timeout=60) as answer:
            assert (answer.status, answer.read()) == (206, b"weights")
    finally:
        server.terminate()
        server.communicate(timeout=60)
    blobs = ObjectBlobs(f"{address}/{prefix}")
    assert [blobs.size(digest) for digest in blobs.digests()] == [len(data)]
    assert not (tmp_path / "store" / "blobs").exists()
