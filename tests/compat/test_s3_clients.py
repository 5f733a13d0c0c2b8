"""Clients of S3 other than boto3: the AWS SDK for JavaScript, and the tools with which people move trees of files. All are
pinned, and installed under target/ by the first test that needs them."""

import filecmp
import os
import pathlib
import random
import shutil
import subprocess

import pytest
from conftest import REGION, eventually, kept, npm_ci, pinned, programs, run, unique

pytestmark = pytest.mark.local
HERE = pathlib.Path(__file__).parent
PART = 5 << 20


@pytest.fixture(scope="session")
def tools():
    """Where the programs of requirements-clients.txt are."""
    return programs("python", HERE / "requirements-clients.txt")


@pytest.fixture
def bucket(node):
    name = unique("clients")
    node.client("s3").create_bucket(Bucket=name)
    return name


def write_tree(root, files, seed=7):
    rng = random.Random(seed)
    for i in range(files):
        path = root / f"d{i % 10}" / f"e{i % 7}" / f"file-{i}.bin"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(rng.randbytes(rng.choice([0, 1, 100, 5000])))


@pytest.fixture
def tree(tmp_path):
    """A tree with what trees have: many small files, names that need encoding, an empty file, files of several parts."""
    root = tmp_path / "tree"
    write_tree(root, 150)
    for name in ("with space.txt", "plus+and&.txt", "ünïcödé/Straße.txt", "per%20cent.txt", "quote'.txt"):
        path = root / "names" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(name)
    (root / "large").mkdir()
    (root / "large/two-parts.bin").write_bytes(os.urandom(2 * PART))
    (root / "large/inline-limit.bin").write_bytes(os.urandom(64 << 10))
    (root / "large/above-it.bin").write_bytes(os.urandom((64 << 10) + 1))
    return root


def files(root):
    return sorted(str(path.relative_to(root)) for path in root.rglob("*") if path.is_file())


def assert_same(left, right):
    names = files(left)
    assert names == files(right)
    _, different, unreadable = filecmp.cmpfiles(left, right, names, shallow=False)
    assert (different, unreadable) == ([], [])


def keys(node, bucket, prefix=""):
    pages = node.client("s3").get_paginator("list_objects_v2").paginate(Bucket=bucket, Prefix=prefix)
    return sorted(item["Key"].removeprefix(prefix) for page in pages for item in page.get("Contents", []))


def test_sdk_for_javascript(node):
    source = HERE / "javascript"
    where = kept(pinned("javascript", (source / "package-lock.json").read_text()), npm_ci(source))
    shutil.copy(source / "objects.test.mjs", where)
    run("node", "--test", "objects.test.mjs", env=node.env(), cwd=where)


def test_aws_sync_of_five_thousand_files(node, bucket, tmp_path):
    here, back = tmp_path / "here", tmp_path / "back"
    write_tree(here, 5000)
    node.aws("s3", "sync", here, f"s3://{bucket}/tree", "--only-show-errors")
    assert keys(node, bucket, "tree/") == files(here)
    node.aws("s3", "sync", f"s3://{bucket}/tree", back, "--only-show-errors")
    assert_same(here, back)
    assert node.aws("s3", "sync", f"s3://{bucket}/tree", back).stdout == ""
    (back / "d0/e0/file-0.bin").unlink()
    (back / "new.txt").write_text("new")
    said = node.aws("s3", "sync", back, f"s3://{bucket}/tree", "--delete").stdout
    assert sorted(line.split(":")[0] for line in said.splitlines() if ":" in line)[-2:] == ["delete", "upload"]
    assert keys(node, bucket, "tree/") == files(back)


@pytest.fixture
def rclone_command(node, tools, tmp_path):
    config = tmp_path / "rclone.conf"
    config.write_text(
        f"[node]\ntype = s3\nprovider = Other\nenv_auth = true\nregion = {REGION}\nendpoint = {node.endpoint}\nforce_path_style = true\n")
    return [tools / "rclone", "--config", config, "--s3-upload-cutoff", "5Mi", "--s3-chunk-size", "5Mi"]


@pytest.fixture
def rclone(node, rclone_command):
    return lambda *args: run(*rclone_command, *args, env=node.env())


def test_rclone_syncs_both_ways(node, bucket, tree, rclone, tmp_path):
    rclone("sync", tree, f"node:{bucket}/tree")
    assert keys(node, bucket, "tree/") == files(tree)
    rclone("check", tree, f"node:{bucket}/tree", "--download")
    rclone("sync", f"node:{bucket}/tree", tmp_path / "back")
    assert_same(tree, tmp_path / "back")
    (tree / "names/with space.txt").unlink()
    (tree / "names/plus+and&.txt").write_text("changed")
    rclone("sync", tree, f"node:{bucket}/tree")
    assert keys(node, bucket, "tree/") == files(tree)
    rclone("moveto", f"node:{bucket}/tree/large/two-parts.bin", f"node:{bucket}/tree/moved.bin")
    assert rclone("cat", f"node:{bucket}/tree/names/plus+and&.txt") == "changed"
    rclone("purge", f"node:{bucket}/tree")
    assert keys(node, bucket) == []


def test_s3cmd_syncs_both_ways(node, bucket, tree, tools, tmp_path):
    config = tmp_path / "s3cfg"
    address = node.endpoint.removeprefix("http://")
    config.write_text(
        f"[default]\naccess_key = {node.access_key_id}\nsecret_key = {node.secret_access_key}\nhost_base = {address}\nhost_bucket = {address}\n"
        f"use_https = False\nbucket_location = {REGION}\nmultipart_chunk_size_mb = 5\nguess_mime_type = False\n")
    s3cmd = lambda *args: run(tools / "s3cmd", "-c", config, "--no-progress", *args, env=node.env())
    s3cmd("sync", f"{tree}/", f"s3://{bucket}/tree/")
    assert keys(node, bucket, "tree/") == files(tree)
    (tmp_path / "back").mkdir()
    s3cmd("sync", f"s3://{bucket}/tree/", f"{tmp_path}/back/")
    assert_same(tree, tmp_path / "back")
    (tree / "names/with space.txt").unlink()
    s3cmd("sync", "--delete-removed", f"{tree}/", f"s3://{bucket}/tree/")
    assert keys(node, bucket, "tree/") == files(tree)
    s3cmd("cp", f"s3://{bucket}/tree/large/two-parts.bin", f"s3://{bucket}/copied.bin")
    assert "copied.bin" in s3cmd("ls", f"s3://{bucket}/")
    s3cmd("setacl", "--acl-private", f"s3://{bucket}/copied.bin")
    assert "MD5 sum" in s3cmd("info", f"s3://{bucket}/copied.bin")
    s3cmd("del", "--recursive", "--force", f"s3://{bucket}/")
    assert keys(node, bucket) == []


def test_s5cmd_in_parallel(node, bucket, tree, tools, tmp_path):
    env = {**node.env(), "S3_ENDPOINT_URL": node.endpoint}
    s5cmd = lambda *args: run(tools / "s5cmd", "--numworkers", "64", *args, env=env)
    s5cmd("cp", "--part-size", "5", f"{tree}/", f"s3://{bucket}/tree/")
    assert keys(node, bucket, "tree/") == files(tree)
    s5cmd("cp", "--part-size", "5", f"s3://{bucket}/tree/*", f"{tmp_path}/back/")
    assert_same(tree, tmp_path / "back")
    s5cmd("sync", "--delete", f"{tree}/d1/", f"s3://{bucket}/tree/d2/")
    assert keys(node, bucket, "tree/d2/") == files(tree / "d1")
    assert s5cmd("du", f"s3://{bucket}/tree/*").split()[0] == str(sum(p.stat().st_size for p in tree.rglob("*") if p.is_file() and "d2" not in p.parts)
                                                                 + sum(p.stat().st_size for p in (tree / "d1").rglob("*") if p.is_file()))
    s5cmd("rm", f"s3://{bucket}/*")
    assert keys(node, bucket) == []


FILES = """
import os, sys
import fsspec, s3fs, smart_open
bucket, endpoint = sys.argv[1:]
fs = s3fs.S3FileSystem(client_kwargs={"endpoint_url": endpoint})
body = os.urandom(11 << 20)
with fs.open(f"{bucket}/fs/parts.bin", "wb", block_size=5 << 20) as file:
    file.write(body)
assert fs.info(f"{bucket}/fs/parts.bin")["size"] == len(body)
with fs.open(f"{bucket}/fs/parts.bin", "rb", block_size=1 << 20) as file:
    file.seek(6 << 20)
    assert file.read(100_000) == body[6 << 20:(6 << 20) + 100_000]
with fs.open(f"{bucket}/fs/lines.txt", "w") as file:
    file.writelines(f"line {i}\\n" for i in range(1000))
with fs.open(f"{bucket}/fs/lines.txt", "a") as file:
    file.write("one more\\n")
assert fs.cat(f"{bucket}/fs/lines.txt").decode().splitlines()[-1] == "one more"
fs.cp(f"{bucket}/fs/parts.bin", f"{bucket}/fs/copy/parts.bin")
fs.mv(f"{bucket}/fs/lines.txt", f"{bucket}/fs/copy/lines.txt")
assert sorted(fs.find(f"{bucket}/fs")) == [f"{bucket}/fs/copy/lines.txt", f"{bucket}/fs/copy/parts.bin", f"{bucket}/fs/parts.bin"]
assert fs.ls(f"{bucket}/fs/copy", detail=False) == [f"{bucket}/fs/copy/lines.txt", f"{bucket}/fs/copy/parts.bin"]
fs.rm(f"{bucket}/fs", recursive=True)
assert not fs.exists(f"{bucket}/fs")

import boto3
params = {"client": boto3.client("s3", endpoint_url=endpoint)}
with smart_open.open(f"s3://{bucket}/smart.txt.gz", "wt", transport_params=params) as file:
    file.writelines(f"line {i}\\n" for i in range(100_000))
with smart_open.open(f"s3://{bucket}/smart.txt.gz", "rt", transport_params=params) as file:
    assert sum(1 for _ in file) == 100_000
"""

OTHERS = """
import io, os, sys
import minio, obstore
from obstore.store import S3Store
bucket, endpoint = sys.argv[1:]
key, secret, region = (os.environ[f"AWS_{name}"] for name in ("ACCESS_KEY_ID", "SECRET_ACCESS_KEY", "REGION"))
body = os.urandom(12 << 20)

client = minio.Minio(endpoint.split("//")[1], access_key=key, secret_key=secret, region=region, secure=False)
client.put_object(bucket, "m/parts.bin", io.BytesIO(body), length=-1, part_size=5 << 20, metadata={"colour": "blue"})
assert client.get_object(bucket, "m/parts.bin").read() == body
assert client.stat_object(bucket, "m/parts.bin").metadata["x-amz-meta-colour"] == "blue"
client.compose_object(bucket, "m/composed.bin", [minio.commonconfig.ComposeSource(bucket, "m/parts.bin")] * 2)
assert client.stat_object(bucket, "m/composed.bin").size == 2 * len(body)
assert [o.object_name for o in client.list_objects(bucket, "m/")] == ["m/composed.bin", "m/parts.bin"]
doomed = [minio.deleteobjects.DeleteObject(o.object_name) for o in client.list_objects(bucket, recursive=True)]
assert not list(client.remove_objects(bucket, doomed))

store = S3Store(bucket, endpoint=endpoint, access_key_id=key, secret_access_key=secret, region=region, virtual_hosted_style_request=False, client_options={"allow_http": True})
obstore.put(store, "o/parts.bin", io.BytesIO(body), chunk_size=5 << 20, max_concurrency=8)
assert bytes(obstore.get(store, "o/parts.bin").bytes()) == body
ranges = obstore.get_ranges(store, "o/parts.bin", starts=[0, 6 << 20, 100], ends=[10, (6 << 20) + 10, 110])
assert [bytes(r) for r in ranges] == [body[0:10], body[6 << 20:(6 << 20) + 10], body[100:110]]
try:
    obstore.put(store, "o/parts.bin", b"no", mode="create", use_multipart=False)
    raise SystemExit("it was replaced")
except obstore.exceptions.AlreadyExistsError:
    pass
obstore.copy(store, "o/parts.bin", "o/copy.bin")
obstore.rename(store, "o/copy.bin", "o/renamed.bin")
assert sorted(o["path"] for page in obstore.list(store, "o") for o in page) == ["o/parts.bin", "o/renamed.bin"]
obstore.delete(store, ["o/parts.bin", "o/renamed.bin"])
"""


@pytest.mark.parametrize("script", [FILES, OTHERS], ids=["s3fs and smart_open", "minio and obstore"])
def test_python_clients(node, bucket, tools, script):
    run(tools / "python", "-c", script, bucket, node.endpoint, env=node.env())
    assert [key for key in keys(node, bucket) if key != "smart.txt.gz"] == []


FUSE = os.access("/dev/fuse", os.W_OK) and (shutil.which("fusermount3") or shutil.which("fusermount"))


def use_mount(node, bucket, tree, mount):
    """What programs do with a file system: copy a tree in, read it, rename, delete, append, and write in the middle of a file."""
    shutil.copytree(tree, mount / "tree")
    assert_same(tree, mount / "tree")
    (mount / "tree/d1").rename(mount / "moved")
    (mount / "tree/names/plus+and&.txt").unlink()
    with (mount / "tree/names/with space.txt").open("a") as file:
        file.write(" and more")
    with (mount / "tree/large/two-parts.bin").open("r+b") as file:
        file.seek(PART)
        file.write(b"changed")


def assert_used(node, bucket, tree):
    names = keys(node, bucket)
    assert [name for name in names if name.startswith("moved/") and not name.endswith("/")] == [f"moved/{name}" for name in files(tree / "d1")]
    assert not [name for name in names if name.startswith("tree/d1/")]
    assert "tree/names/plus+and&.txt" not in names
    expected = (tree / "large/two-parts.bin").read_bytes()
    # A file that was closed may still be on its way.
    for key, body in {
        "names/with space.txt": b"with space.txt and more",
        "names/ünïcödé/Straße.txt": "ünïcödé/Straße.txt".encode(),
        "large/two-parts.bin": expected[:PART] + b"changed" + expected[PART + 7:],
    }.items():
        eventually(lambda: node.client("s3").get_object(Bucket=bucket, Key=f"tree/{key}")["Body"].read() == body)


@pytest.mark.skipif(not shutil.which("s3fs") or not FUSE, reason="needs s3fs and FUSE")
def test_s3fs_mounts_a_bucket(node, bucket, tree, tmp_path):
    secret, mount = tmp_path / "secret", tmp_path / "mount"
    secret.write_text(f"{node.access_key_id}:{node.secret_access_key}")
    secret.chmod(0o600)
    mount.mkdir()
    run("s3fs", bucket, mount, "-o", f"passwd_file={secret},url={node.endpoint},use_path_request_style,endpoint={REGION},multipart_size=5", env=node.env())
    try:
        use_mount(node, bucket, tree, mount)
    finally:
        run("umount", mount, env=node.env())
    assert_used(node, bucket, tree)


@pytest.mark.skipif(not FUSE, reason="needs FUSE")
def test_rclone_mounts_a_bucket(node, bucket, tree, rclone_command, tmp_path):
    mount, env = tmp_path / "mount", node.env()
    mount.mkdir()
    if not shutil.which("fusermount3"):
        # The older program mounts for rclone as well, which knows the newer name only.
        (tmp_path / "bin").mkdir()
        (tmp_path / "bin/fusermount3").symlink_to(shutil.which("fusermount"))
        env["PATH"] = f"{tmp_path}/bin:{env['PATH']}"
    options = ["--vfs-cache-mode", "full", "--vfs-write-back", "0", "--cache-dir", tmp_path / "cache", "--log-file", tmp_path / "log"]
    mounting = subprocess.Popen([*rclone_command, "mount", f"node:{bucket}", mount, *options], env=env)
    try:
        eventually(lambda: os.path.ismount(mount) or mounting.poll() is not None)
        assert os.path.ismount(mount), (tmp_path / "log").read_text()
        use_mount(node, bucket, tree, mount)
        assert_used(node, bucket, tree)
    finally:
        mounting.terminate()
        mounting.wait(60)
