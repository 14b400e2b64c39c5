"""Input and output in object storage: real servers on this machine that speak S3, its dialect of Google, and Azure."""

from __future__ import annotations

import json
import sys
import threading
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any
from urllib.request import Request, urlopen

import obstore
import obstore.exceptions
import pandas as pd
import pyarrow as pa
import pytest
from moto.moto_server.werkzeug_app import DomainDispatcherApplication, create_backend_app
from moto.server import ThreadedMotoServer
from werkzeug.serving import WSGIRequestHandler, make_server

from app.errors import ScoringRefused
from app.jobs import locations, parts, stretches, table_guards
from app.jobs.input_parts import InputParts
from app.jobs.job import ScoringJob
from app.jobs.locations import store_of
from app.jobs.run_folder import RunFolder
from app.jobs.stretches import InputUnseen, Stretch
from app.jobs.versions import choose
from tests.jobs import azure
from tests.jobs.files import SETTINGS, estimator, penguins, read, same_as, score, write
from tests.jobs.test_table_guards import arrow, parquet

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def endpoint() -> Iterator[str]:
    server = ThreadedMotoServer("127.0.0.1", 0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    yield f"http://{host}:{port}"
    server.stop()


@pytest.fixture
def bucket(endpoint: str, monkeypatch: pytest.MonkeyPatch) -> str:
    for name, value in [
        ("ACCESS_KEY_ID", "test"),
        ("SECRET_ACCESS_KEY", "test"),
        ("DEFAULT_REGION", "us-east-1"),
        ("ENDPOINT_URL", endpoint),
    ]:
        monkeypatch.setenv(f"AWS_{name}", value)
    with urlopen(Request(f"{endpoint}/birds", method="PUT"), timeout=20) as answer:
        assert answer.status == 200
    return "s3://birds"


def put(location: str, path: Path) -> None:
    store, name = store_of(location)
    obstore.put(store, name, path)


def get(location: str, path: Path) -> Path:
    store, name = store_of(location)
    path.write_bytes(bytes(obstore.get(store, name).bytes()))
    return path


SIGNED = "AWS4-HMAC-SHA256 Credential=test/20260101/us-east-1/s3/aws4_request, SignedHeaders=host, Signature=0"


@pytest.fixture
def gs_bucket(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """Yield a bucket of a server that speaks the XML API of Google Cloud Storage: the API of S3, with other keys."""
    s3 = DomainDispatcherApplication(create_backend_app)

    def gs(environ: dict[str, Any], start_response: Any) -> Any:
        return s3({**environ, "HTTP_AUTHORIZATION": SIGNED}, start_response)

    server = make_server("127.0.0.1", 0, gs, threaded=True, request_handler=Quiet)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    endpoint = f"http://127.0.0.1:{server.server_port}"
    with urlopen(Request(f"{endpoint}/clouds", method="PUT"), timeout=20) as answer:
        assert answer.status == 200
    account = {"gcs_base_url": endpoint, "disable_oauth": True, "client_email": "", "private_key": ""}
    (tmp_path / "account.json").write_text(json.dumps({**account, "private_key_id": ""}))
    monkeypatch.setenv("GOOGLE_SERVICE_ACCOUNT", str(tmp_path / "account.json"))
    yield "gs://clouds"
    server.shutdown()
    thread.join()
    server.server_close()


class Quiet(WSGIRequestHandler):
    def log(self, *_: object) -> None:
        """Print nothing."""


def test_google_cloud_storage_is_read_and_written(gs_bucket: str, table: pd.DataFrame, tmp_path: Path) -> None:
    put(f"{gs_bucket}/in/year=2007/all.csv", write(table.drop(columns="year"), tmp_path / "all.csv"))
    for location in (f"{gs_bucket}/in", f"{gs_bucket}/in/*/all.csv"):
        scored = score("penguins", location, f"{gs_bucket}/out/all.parquet", keep=["id"])
        assert (scored.rows, scored.rejected) == (600, 0)
    found = read(get(f"{gs_bucket}/out/all.parquet", tmp_path / "found.parquet"))
    same_as(estimator("penguins"), table.drop(columns="id").assign(year=2007), found)


@pytest.fixture
def az_container(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    with azure.blob_server(tmp_path_factory.mktemp("azurite")) as url:
        azure.make_container(url, "birds")
        monkeypatch.setenv("AZURE_STORAGE_ACCOUNT_NAME", azure.ACCOUNT)
        monkeypatch.setenv("AZURE_STORAGE_USE_EMULATOR", "true")
        monkeypatch.setenv("AZURITE_BLOB_STORAGE_URL", url)
        yield "az://birds"


@pytest.mark.needs_program("node", "npm")
def test_azure_blob_storage_is_read_and_written(az_container: str, table: pd.DataFrame, tmp_path: Path) -> None:
    wrong = table.copy()
    wrong.loc[9, "island"] = "Mars"
    put(f"{az_container}/in/year=2007/all.parquet", write(wrong.drop(columns="year"), tmp_path / "all.parquet"))
    for location in (f"{az_container}/in", f"{az_container}/in/*/all.parquet"):
        scored = score("penguins", location, f"{az_container}/out/all.csv.gz", keep=["id"])
        assert (scored.rows, scored.rejected) == (600, 1)
    found = read(get(f"{az_container}/out/all.csv.gz", tmp_path / "found.csv.gz"))
    same_as(estimator("penguins"), table.drop(columns="id").assign(year=2007).drop(9), found)
    rejects = get(f"{az_container}/out/all.csv.gz.rejects.ndjson", tmp_path / "rejects").read_text()
    assert json.loads(rejects)["row"] == 10
    # All rows are from one version of the blob, also there.
    location = f"{az_container}/in/year=2007/all.parquet"
    [source] = locations.sources_of(location)
    put(location, write(table, tmp_path / "all.parquet"))
    with source.open() as stream, pytest.raises(ScoringRefused, match="changed while it was read"):
        stream.read()


@pytest.fixture
def table() -> pd.DataFrame:
    return penguins(600)


def test_objects_are_read_and_written(
    bucket: str, table: pd.DataFrame, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(parts, "TEXT_BYTES", 4000)
    wrong = table.copy()
    wrong.loc[9, "island"] = "Mars"
    put(f"{bucket}/in/all.csv.gz", write(wrong, tmp_path / "all.csv.gz"))
    scored = score("penguins", f"{bucket}/in/all.csv.gz", f"{bucket}/out/all.parquet", keep=["id"])
    assert (scored.rows, scored.rejected) == (600, 1)
    found = read(get(f"{bucket}/out/all.parquet", tmp_path / "found.parquet"))
    same_as(estimator("penguins"), table.drop(columns="id").drop(9), found)
    rejects = get(f"{bucket}/out/all.parquet.rejects.ndjson", tmp_path / "rejects").read_text()
    assert json.loads(rejects)["line"] == 11


@pytest.mark.parametrize("location", ["parts", "parts/", "parts/year=*/*.parquet"])
def test_a_prefix_and_a_glob_are_many_objects(bucket: str, location: str, table: pd.DataFrame, tmp_path: Path) -> None:
    for year, some in table.groupby("year"):
        put(f"{bucket}/parts/year={year}/0.parquet", write(some.drop(columns="year"), tmp_path / "part.parquet"))
    scored = score("penguins", f"{bucket}/{location}", f"{bucket}/{location.strip('*/')[:5]}-out/", keep=["id", "year"])
    assert scored.rows == 600
    store, _ = store_of(bucket)
    names = sorted(each["path"] for some in obstore.list(store, "parts-out") for each in some)
    assert names == [f"parts-out/part-0000{at}.parquet" for at in range(3)]
    found = pd.concat([read(get(f"{bucket}/{name}", tmp_path / "found.parquet")) for name in names])
    found = found.sort_values("id").reset_index(drop=True)
    assert found["year"].astype(int).tolist() == table["year"].tolist()
    same_as(estimator("penguins"), table.drop(columns="id"), found)


def test_an_object_that_is_replaced_while_it_is_read_ends_the_run(
    bucket: str, table: pd.DataFrame, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(parts, "TEXT_BYTES", 4000)
    monkeypatch.setattr(locations, "BUFFER_BYTES", 4000)
    location = f"{bucket}/changing/in.csv"
    put(location, write(table, tmp_path / "in.csv"))
    other = write(table.head(300), tmp_path / "other.csv")
    job = ScoringJob("penguins", None, location, f"{tmp_path}/out.csv", settings=SETTINGS, processes=1)
    with pytest.raises(ScoringRefused, match="changed while it was read"):
        job.run(lambda progress: put(location, other) if progress.rows else None)
    assert not (tmp_path / "out.csv").exists()


@pytest.mark.parametrize("name", ["in.parquet", "in.csv"])
def test_a_worker_reads_the_parts_of_an_object_that_it_sees(
    name: str, bucket: str, table: pd.DataFrame, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(parts, "TEXT_BYTES", 4000)
    location = f"{bucket}/seen/{name}"
    put(location, write(table, tmp_path / name))
    _, manifest = choose(SETTINGS, "penguins", None)
    signature = manifest.signature
    of_input = InputParts(locations.sources_of(location), signature, ())
    named = list(of_input.stretches(2))
    assert all(isinstance(stretch, Stretch) for stretch in named)
    read = [part for stretch in named if isinstance(stretch, Stretch) for part in stretch.read(signature, ())]
    wanted = list(of_input.read())
    assert [(part.number, part.content, part.table) for part in read] == [
        (part.number, part.content, part.table) for part in wanted
    ]
    stretches._status_of_object.cache_clear()  # as in another process
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:1")
    assert isinstance(named[0], Stretch)
    with pytest.raises(InputUnseen, match="does not see the input"):
        list(named[0].read(signature, ()))


@pytest.mark.parametrize(
    ("name", "make"),
    [("in.arrow", arrow), ("in.parquet", partial(parquet, use_dictionary=False, data_page_size=2**30))],
)
def test_the_size_of_an_objects_batches_and_pages_is_checked_before_they_are_read(
    name: str, make: Callable[[Any], bytes], bucket: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(table_guards, "LIMITS", table_guards.DeclaredLimits(2**22, 2**62, table_guards.MAX_ROWS))
    (tmp_path / name).write_bytes(make(pa.array(["a" * 2**16] * 70)))
    put(f"{bucket}/hostile/{name}", tmp_path / name)
    with pytest.raises(ScoringRefused, match="a page or batch of it is longer"):
        score("iris-two", f"{bucket}/hostile/{name}", tmp_path / "out.csv")


def test_without_the_library_a_url_says_what_to_install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("obstore", "obstore.store", "obstore.exceptions"):
        monkeypatch.setitem(sys.modules, name, None)
    source = write(penguins(5), tmp_path / "in.csv")
    for location, output in [("s3://birds/in.csv", tmp_path / "out.csv"), (source, "s3://birds/out.csv")]:
        with pytest.raises(ScoringRefused, match=r"needs obstore: pip install obstore"):
            score("penguins", location, output)


def test_an_output_whose_storage_does_not_answer_is_refused_first(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in {"ENDPOINT_URL": "http://127.0.0.1:1", "ACCESS_KEY_ID": "a", "SECRET_ACCESS_KEY": "b"}.items():
        monkeypatch.setenv(f"AWS_{name}", value)
    monkeypatch.setattr(RunFolder, "open", None)  # so that nothing can be scored
    source = write(penguins(5), tmp_path / "in.csv")
    with pytest.raises(ScoringRefused, match=r"^s3://birds/out\.csv: Generic S3 error: .* error sending request$"):
        score("penguins", source, "s3://birds/out.csv")


@pytest.mark.parametrize(
    ("location", "keys"),
    [
        ("s3://birds/in.csv", "AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY"),
        ("gs://birds/in.csv", "GOOGLE_SERVICE_ACCOUNT"),
    ],
)
def test_missing_keys_are_named(location: str, keys: str) -> None:
    asked = "Error performing PUT http://169.254.169.254/latest/api/token\n\nDebug source:\nGeneric {}"
    with (
        pytest.raises(ScoringRefused, match=f"^{location}: there are no keys for it: set {keys}$"),
        locations._storage_errors(location),
    ):
        raise obstore.exceptions.GenericError(asked)


def test_objects_that_are_not_there_are_refused(bucket: str, tmp_path: Path) -> None:
    for location, reason in [
        (f"{bucket}/none.csv", "there is no such file"),
        ("s3://no-such-bucket/a.csv", "no-such-bucket"),
        ("ftp://host/a.csv", "URLs begin with"),
    ]:
        with pytest.raises(ScoringRefused, match=reason):
            score("penguins", location, tmp_path / "out.csv")
