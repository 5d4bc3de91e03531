"""Object storage, against a real S3 API on loopback. Local folders are tested with what is read from them."""

import gzip
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from orchestration.lake import sources
from orchestration.lake.sources import Bucket, Sources
from tests.orchestration.lake.world import World
from tests.support.builders import make_event

URL = "s3://usage/landing"


def put(s3: Any, name: str, *lines: object) -> None:
    body = b"".join(line if isinstance(line, bytes) else json.dumps(line).encode() + b"\n" for line in lines)
    s3.put_object(Bucket="usage", Key=f"landing/{name}", Body=body)


def test_objects_count_like_files(s3: Any, tmp_path: Path) -> None:
    world = World(tmp_path, Bucket(URL + "/"))
    put(s3, "2026/11/a.ndjson", make_event(uuid="plain"), "no event")
    put(s3, "b.ndjson.gz", gzip.compress(json.dumps(make_event(uuid="zipped")).encode() + b"\n"))
    put(s3, ".hidden.ndjson", make_event(uuid="hidden"))
    put(s3, "c.ndjson.part", make_event(uuid="unfinished"))
    put(s3, "notes.txt", b"hello")
    s3.put_object(Bucket="usage", Key="elsewhere/d.ndjson", Body=b"{}")
    world.ingest()

    assert world.events() == ["plain", "zipped"]
    assert world.rejected("landed_file, line_number") == [(f"{URL}/2026/11/a.ndjson", 2)]
    assert [(entry.path, entry.reason[:10]) for entry in world.skipped] == [(f"{URL}/notes.txt", "is text wi")]
    assert world.ingest() == []


def test_marks_of_folders_and_of_programs_are_no_events(s3: Any, tmp_path: Path) -> None:
    world = World(tmp_path, Bucket(URL))
    put(s3, "2026/")
    put(s3, "2026_$folder$")
    put(s3, "2026/_SUCCESS")
    put(s3, "2026/_temporary/0/a.ndjson", make_event(uuid="unfinished"))
    put(s3, "2026/_delta_log/0001.json", {"commitInfo": {}})
    put(s3, "2026/a.ndjson", make_event(uuid="one"))
    world.ingest()

    assert (world.events(), world.skipped, world.rejected()) == (["one"], [], [])


def test_object_is_finished_when_its_mark_is_beside_it(s3: Any) -> None:
    bucket = Bucket(URL)
    put(s3, "a-1.csv", b"event,account_id\napi_call,acme")
    [file] = bucket.scan()[0]
    assert not bucket.is_ended(file)
    put(s3, "a-1.csv.done")
    assert bucket.is_ended(file)
    assert [found.path for found in bucket.scan()[0]] == [file.path]
    assert not bucket.is_ended(replace(file, path=f"{URL}/a-2.csv"))


def test_object_is_read_on_when_it_was_put_again_with_more(s3: Any, tmp_path: Path) -> None:
    world = World(tmp_path, Bucket(URL))
    first, second = make_event(uuid=None, account="first"), make_event(uuid=None, account="second")
    put(s3, "a.ndjson", first)
    world.ingest()
    put(s3, "a.ndjson", first, second)
    world.ingest()
    s3.delete_object(Bucket="usage", Key="landing/a.ndjson")
    put(s3, "b.ndjson", first, second)
    world.ingest()

    assert world.events("account_id") == ["first", "second"]


def test_object_is_read_in_ranges(s3: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sources, "RANGE_BYTES", 1000)
    world = World(tmp_path, Bucket(URL))
    put(s3, "a.ndjson", *(make_event(uuid=f"{number:03}") for number in range(100)))
    world.ingest(batch_bytes=5000)

    assert world.events() == [f"{number:03}" for number in range(100)]


def test_object_is_left_for_the_next_run_when_replaced_between_ranges(
    s3: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sources, "RANGE_BYTES", 100)
    bucket = Bucket(URL)
    put(s3, "a.ndjson", *(make_event(uuid=f"old {number}") for number in range(10)))
    [file] = bucket.scan()[0]
    stream = bucket.open(file)
    assert stream.read(50)
    put(s3, "a.ndjson", *(make_event(uuid=f"new {number}") for number in range(10)))

    with pytest.raises(OSError, match="changed meanwhile"):
        stream.read(500)


def test_folder_and_bucket_are_read_as_one(s3: Any, tmp_path: Path) -> None:
    world = World(tmp_path, Sources(tmp_path / "landing", URL))
    world.land(make_event(uuid="local"))
    put(s3, "a.ndjson", make_event(uuid="remote"))
    world.ingest()

    assert world.events() == ["local", "remote"]


def test_folder_is_read_when_the_bucket_cannot_be_listed(s3: Any, tmp_path: Path) -> None:
    world = World(tmp_path, Sources(tmp_path / "landing", "s3://nobodys/landing"))
    world.land(make_event(uuid="local"))
    world.ingest()

    assert world.events() == ["local"]
    [skipped] = world.skipped
    assert skipped.path == "s3://nobodys/landing"
    assert skipped.reason.startswith("cannot be listed: ")


def test_bucket_that_does_not_answer_is_given_up_soon(s3: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_ENDPOINT", "http://127.0.0.1:9")
    monkeypatch.setattr(sources, "RETRY_SECONDS", 0.1)
    found, [skipped] = Sources(tmp_path, URL).scan()

    assert found == []
    assert skipped.reason.startswith("cannot be listed: ")


@pytest.mark.parametrize("url", ["gs://usage/landing", "az://usage/landing"])
def test_other_stores_are_spoken_to_as_well(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AZURE_STORAGE_ACCOUNT_NAME", "account")
    assert Bucket(url).url == url


def test_no_key_of_a_store_is_in_what_is_reported(s3: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "marked-secret-4711")
    _, [skipped] = Sources(tmp_path, "s3://nobodys/landing").scan()
    assert "4711" not in skipped.reason
