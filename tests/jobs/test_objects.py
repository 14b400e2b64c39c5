"""Input and output in object storage: a real server that speaks S3, on this machine."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from urllib.request import Request, urlopen

import obstore
import pandas as pd
import pytest
from moto.server import ThreadedMotoServer

from app.errors import ScoringRefused
from app.jobs import parts
from app.jobs.locations import store_of
from tests.jobs.files import estimator, penguins, read, same_as, score, write

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


def test_objects_that_are_not_there_are_refused(bucket: str, tmp_path: Path) -> None:
    for location, reason in [
        (f"{bucket}/none.csv", "there is no such file"),
        ("s3://no-such-bucket/a.csv", "no-such-bucket"),
        ("ftp://host/a.csv", "URLs begin with"),
    ]:
        with pytest.raises(ScoringRefused, match=reason):
            score("penguins", location, tmp_path / "out.csv")
