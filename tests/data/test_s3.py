"""The rooms that read bytes, against S3's own protocol: moto's server and s3fs."""

import multiprocessing
from operator import methodcaller

import boto3
import fsspec
import pytest
from moto.server import ThreadedMotoServer

from avatar.data.index import ShardIndex
from avatar.data.sources import Span, find_shards, read_all
from avatar.errors import DataError


@pytest.fixture(scope="module")
def bucket():
    """(client, name) of an empty bucket that s3fs finds by its environment."""
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("AWS_ENDPOINT_URL", f"http://{host}:{port}")
        for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
            patch.setenv(name, "testing")
        patch.setenv("AWS_DEFAULT_REGION", "us-east-1")
        client = boto3.client("s3")
        client.create_bucket(Bucket="shards")
        yield client, "shards"
    server.stop()
    fsspec.get_filesystem_class("s3").clear_instance_cache()


@pytest.fixture(scope="module")
def stored(bucket, shards):
    """Three shards with their sidecars and a manifest, and the same without sidecars."""
    client, name = bucket
    for path in shards.iterdir():
        client.upload_file(str(path), name, f"train/{path.name}")
        if path.suffix == ".tar":
            client.upload_file(str(path), name, f"bare/{path.name}")
    client.put_object(
        Bucket=name, Key="train/manifest.json", Body=b'{"shards": [{"name": "00000.tar"}, {"name": "00002.tar"}]}'
    )
    return f"s3://{name}"


@pytest.mark.parametrize("location", ["train", "train/0000{0,2}.tar", "bare/0000{0,2}.tar"])
def test_a_bucket_is_indexed_and_read_like_a_folder(stored, shards, location):
    index, local = ShardIndex(f"{stored}/{location}"), ShardIndex(shards)
    assert index.shard_sizes == [10, 5]  # 2 clips of 5 questions, and the last one
    for entry in index:
        theirs = local.by_key(entry.key)
        spans = [entry.record, *entry.members.values()]
        assert read_all(spans) == [span.read() for span in (theirs.record, *theirs.members.values())]


@pytest.mark.timeout(120)
@pytest.mark.parametrize("method", ["fork", "spawn"])
def test_a_span_is_read_in_another_process(stored, method):
    record = ShardIndex(f"{stored}/train")[3].record
    with multiprocessing.get_context(method).Pool(2) as pool:
        assert pool.map(methodcaller("read"), [record] * 4, chunksize=1) == [record.read()] * 4


def test_what_is_not_there_is_named(stored):
    with pytest.raises(DataError, match=r"s3://shards/none/manifest\.json: there is none"):
        find_shards(f"{stored}/none")
    with pytest.raises(DataError, match=r"s3://shards/train/9\.tar: No such file"):
        Span(f"{stored}/train/9.tar", 0, 5).read()
    size = ShardIndex(f"{stored}/train/00000.tar")[0].record
    with pytest.raises(DataError, match=r"00000\.tar: truncated at byte"):
        Span(size.shard, 0, 10**9).read()
