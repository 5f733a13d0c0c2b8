"""Container images from registries: the registry of the Distribution project (Debian's `docker-registry`), with and
without users, and what stands before one elsewhere: who gives tokens, and who sends on to other hosts. Images are pushed
by plain requests; there is no Docker."""

import base64
import gzip
import hashlib
import http.server
import json
import os
import platform
import shutil
import subprocess
import threading
import urllib.error
import urllib.parse
import urllib.request

import pytest
from botocore.exceptions import ClientError
from conftest import Node, eventually, free_port, running, unique
from functions import role
from test_functions import BOOTSTRAP_C, invoke, tar

pytestmark = pytest.mark.local

MACHINE = {"x86_64": "amd64", "aarch64": "arm64"}[platform.machine()]
USER, PASSWORD = "puller", "s3cret-of-the-registry"
# What `htpasswd -B` makes of it.
HTPASSWD = "puller:$2y$04$SbRMQKTxTcZDrHh8UBD5Fu2bFAVeMk5lngzYKPRGa.X.ZM1x.VTBe\n"
OCI = "application/vnd.oci.image"
DOCKER = "application/vnd.docker"


def digest_of(data):
    return f"sha256:{hashlib.sha256(data).hexdigest()}"


def basic(user=USER, password=PASSWORD):
    return "Basic " + base64.b64encode(f"{user}:{password}".encode()).decode()


class Registry:
    """One of its own, on a free port."""

    def __init__(self, directory, users=None):
        self.directory = directory
        self.authorization = basic() if users else None
        self.port = free_port()
        config = {
            "version": 0.1,
            "storage": {"filesystem": {"rootdirectory": str(directory / "store")}, "delete": {"enabled": True}},
            "http": {"addr": f"127.0.0.1:{self.port}"},
        }
        if users:
            (directory / "htpasswd").write_text(users)
            config["auth"] = {"htpasswd": {"realm": "here", "path": str(directory / "htpasswd")}}
        # Which is YAML too.
        (directory / "config.yml").write_text(json.dumps(config))

    @property
    def host(self):
        return f"127.0.0.1:{self.port}"

    def start(self):
        with open(self.directory / "log", "ab") as log:
            self.process = subprocess.Popen(
                ["setpriv", "--pdeathsig", "KILL", "docker-registry", "serve", self.directory / "config.yml"], stdout=log, stderr=log
            )

        def answers():
            assert self.process.poll() is None, (self.directory / "log").read_text()[-5000:]
            try:
                self.request("GET", "/v2/")
            except urllib.error.HTTPError:
                return False
            except OSError:
                return False
            return True

        eventually(answers)
        return self

    def stop(self):
        self.process.kill()
        self.process.wait()

    def request(self, method, path, data=None, **headers):
        url = path if path.startswith("http") else f"http://{self.host}{path}"
        headers = {name.replace("_", "-"): value for name, value in headers.items()}
        if self.authorization:
            headers["Authorization"] = self.authorization
        return urllib.request.urlopen(urllib.request.Request(url, method=method, data=data, headers=headers), timeout=60)

    def push_blob(self, repository, data, media_type):
        place = self.request("POST", f"/v2/{repository}/blobs/uploads/", b"").headers["Location"]
        separator = "&" if "?" in place else "?"
        query = urllib.parse.urlencode({"digest": digest_of(data)})
        self.request("PUT", f"{place}{separator}{query}", data, Content_Type="application/octet-stream")
        return {"mediaType": media_type, "digest": digest_of(data), "size": len(data)}

    def push_manifest(self, repository, version, manifest):
        data = json.dumps(manifest).encode()
        self.request("PUT", f"/v2/{repository}/manifests/{version}", data, Content_Type=manifest["mediaType"])
        return digest_of(data)

    def push(self, repository, tag, layers, config=None, kind=OCI, machine=MACHINE):
        """An image of layers, each a map of paths and contents."""
        names = {
            OCI: (f"{OCI}.manifest.v1+json", f"{OCI}.config.v1+json", f"{OCI}.layer.v1.tar+gzip"),
            DOCKER: (f"{DOCKER}.distribution.manifest.v2+json", f"{DOCKER}.container.image.v1+json", f"{DOCKER}.image.rootfs.diff.tar.gzip"),
        }[kind]
        tars = [tar(files) for files in layers]
        described = {
            "architecture": machine, "os": "linux", "config": config or {},
            "rootfs": {"type": "layers", "diff_ids": [digest_of(tar) for tar in tars]},
        }
        manifest = {
            "schemaVersion": 2,
            "mediaType": names[0],
            "config": self.push_blob(repository, json.dumps(described).encode(), names[1]),
            "layers": [self.push_blob(repository, gzip.compress(tar, mtime=0), names[2]) for tar in tars],
        }
        return self.push_manifest(repository, tag, manifest), manifest

    def blob_file(self, digest):
        kind, hexadecimal = digest.split(":")
        return self.directory / "store/docker/registry/v2/blobs" / kind / hexadecimal[:2] / hexadecimal / "data"


@pytest.fixture(scope="module")
def bootstrap(tmp_path_factory):
    directory = tmp_path_factory.mktemp("bootstrap")
    (directory / "bootstrap.c").write_text("#define _GNU_SOURCE\n" + BOOTSTRAP_C)
    subprocess.run(["gcc", "-static", "-O1", "-w", "-o", directory / "bootstrap", directory / "bootstrap.c"], check=True)
    return (directory / "bootstrap").read_bytes()


def run_config(flavour, command="first"):
    return {"Entrypoint": ["/app/bootstrap"], "Cmd": [command], "Env": [f"FLAVOUR={flavour}"]}


@pytest.fixture(scope="module")
def registry(tmp_path_factory):
    assert shutil.which("docker-registry"), "install Debian's docker-registry"
    registry = Registry(tmp_path_factory.mktemp("registry")).start()
    yield registry
    registry.stop()


@pytest.fixture(scope="module")
def private(tmp_path_factory):
    registry = Registry(tmp_path_factory.mktemp("private"), HTPASSWD).start()
    yield registry
    registry.stop()


class Front(http.server.BaseHTTPRequestHandler):
    """What stands before a registry: it wants a token, which it gives itself, and sends on to the registry for blobs."""

    registry = None
    wants_basic = None
    seen = None
    blobs_at = None

    def do_GET(self):
        self.seen.append((self.path, self.headers.get("Authorization")))
        if self.path.startswith("/token"):
            query = dict(urllib.parse.parse_qsl(self.path.partition("?")[2]))
            if query.get("service") != "front" or self.wants_basic != self.headers.get("Authorization"):
                return self.answer(401, b"{}")
            token = base64.b64encode(query["scope"].encode()).decode()
            return self.answer(200, json.dumps({"token": token}).encode())
        repository = self.path.removeprefix("/v2/").rpartition("/")[0].rpartition("/")[0]
        token = base64.b64encode(f"repository:{repository}:pull".encode()).decode()
        if self.headers.get("Authorization") != f"Bearer {token}":
            realm = f'Bearer realm="http://{self.headers["Host"]}/token",service="front",scope="repository:x:pull"'
            return self.answer(401, b"{}", ("WWW-Authenticate", realm))
        if "/blobs/" in self.path:
            return self.answer(307, b"", ("Location", f"{self.blobs_at}{self.path}"))
        with self.registry.request("GET", self.path, Accept=self.headers.get("Accept", "")) as answer:
            self.answer(200, answer.read(), ("Content-Type", answer.headers["Content-Type"]))

    def answer(self, status, body, *headers):
        self.send_response(status)
        for name, value in [*headers, ("Content-Length", str(len(body)))]:
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *args):
        pass


@pytest.fixture(scope="module")
def front(registry):
    Front.registry, Front.seen, Front.blobs_at = registry, [], f"http://{registry.host}"
    Front.protocol_version = "HTTP/1.1"
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Front)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    Front.host = f"127.0.0.1:{server.server_address[1]}"
    yield Front
    server.shutdown()
    server.server_close()


@pytest.fixture(scope="module")
def registry_credentials(tmp_path_factory, private):
    path = tmp_path_factory.mktemp("docker") / "config.json"
    path.write_text(json.dumps({"auths": {private.host: {"auth": basic().removeprefix("Basic ")}}}))
    return path


@pytest.fixture(scope="module")
def node(tmp_path_factory, shared_cache, registry, private, front, registry_credentials):
    data = tmp_path_factory.mktemp("node") / "data"
    hosts = [option for host in (registry.host, private.host, front.host) for option in ("--registry", host)]
    with running(data, "--cache", shared_cache, *hosts, "--registry-credentials", registry_credentials) as node:
        yield node
        assert PASSWORD not in node.log_text() and basic() not in node.log_text()


@pytest.fixture(scope="module")
def arn(node):
    with role(node) as arn:
        yield arn


def create(client, arn, uri, **options):
    name = unique("image")
    made = client.create_function(FunctionName=name, PackageType="Image", Role=arn, Code={"ImageUri": uri}, Timeout=20, **options)
    return name, made


def active(client, name, **options):
    client.get_waiter("function_active_v2").wait(FunctionName=name, WaiterConfig={"Delay": 0.2, "MaxAttempts": 300}, **options)


def updated(client, name):
    client.get_waiter("function_updated_v2").wait(FunctionName=name, WaiterConfig={"Delay": 0.2, "MaxAttempts": 300})


def refused(call):
    with pytest.raises(ClientError) as e:
        call()
    return e.value.response["Error"]["Code"], e.value.response["Error"]["Message"]


@pytest.mark.parametrize("kind", [OCI, DOCKER])
def test_a_function_runs_from_a_registry_and_is_updated(node, registry, bootstrap, arn, kind):
    client = node.client("lambda")
    repository = unique("team/app")
    program = {"app/bootstrap": bootstrap, "etc/gone": b"x"}
    first, _ = registry.push(repository, "1", [program, {"etc/.wh.gone": b""}], run_config("tin"), kind)
    uri = f"{registry.host}/{repository}:1"
    name, made = create(client, arn, uri)
    assert (made["State"], made["StateReasonCode"], made["PackageType"]) == ("Pending", "Creating", "Image")
    assert made["CodeSha256"] == first.removeprefix("sha256:") and made["CodeSize"] == 0
    active(client, name)
    assert invoke(client, name)[0] == "first in tin"
    got = client.get_function(FunctionName=name)
    assert got["Code"] == {"RepositoryType": "ECR", "ImageUri": uri, "ResolvedImageUri": f"{registry.host}/{repository}@{first}"}
    assert got["Configuration"]["LastUpdateStatus"] == "Successful"

    # The tag goes on to another image: the function does not.
    second, _ = registry.push(repository, "1", [program], run_config("glass"), kind)
    client.update_function_configuration(FunctionName=name, ImageConfig={"Command": ["other"]})
    updated(client, name)
    assert invoke(client, name)[0] == "other in tin"
    dry = client.update_function_code(FunctionName=name, ImageUri=uri, DryRun=True)
    assert dry["CodeSha256"] == second.removeprefix("sha256:")
    changed = client.update_function_code(FunctionName=name, ImageUri=uri, Publish=True)
    assert changed["Version"] == "1"
    active(client, name, Qualifier="1")
    updated(client, name)
    assert invoke(client, name)[0] == "other in glass"
    assert invoke(client, name, Qualifier="1")[0] == "other in glass"
    same = client.update_function_code(FunctionName=name, ImageUri=f"{registry.host}/{repository}@{second}")
    assert (same["LastUpdateStatus"], same["CodeSha256"]) == ("Successful", changed["CodeSha256"])
    back = client.update_function_code(FunctionName=name, ImageUri=got["Code"]["ResolvedImageUri"])
    assert (back["LastUpdateStatus"], back["LastUpdateStatusReasonCode"]) == ("InProgress", "Creating")
    updated(client, name)
    assert invoke(client, name)[0] == "other in tin"
    assert invoke(client, name, Qualifier="1")[0] == "other in glass"
    assert client.publish_version(FunctionName=name, CodeSha256=first.removeprefix("sha256:"))["Version"] == "2"
    # Another function of an image that is there takes nothing from the registry but its manifest.
    other, _ = create(client, arn, got["Code"]["ResolvedImageUri"], Publish=True)
    active(client, other)
    assert invoke(client, other, Qualifier="1")[0] == "first in tin"
    for one in (name, other):
        client.delete_function(FunctionName=one)


def test_an_index_gives_the_hosts_own_image(node, registry, bootstrap, arn):
    client = node.client("lambda")
    repository = unique("multi")
    own, manifest = registry.push(repository, "own", [{"app/bootstrap": bootstrap}], run_config("steel"))
    other, _ = registry.push(repository, "other", [{"x": b"x"}], machine="s390x")
    entry = lambda digest, machine: {
        "mediaType": manifest["mediaType"], "digest": digest, "size": len(json.dumps(manifest)), "platform": {"os": "linux", "architecture": machine}
    }
    index = {"schemaVersion": 2, "mediaType": f"{OCI}.index.v1+json", "manifests": [entry(other, "s390x"), entry(own, MACHINE)]}
    registry.push_manifest(repository, "latest", index)
    # Without a tag, it is `latest`.
    name, made = create(client, arn, f"{registry.host}/{repository}")
    assert made["CodeSha256"] == own.removeprefix("sha256:")
    active(client, name)
    assert invoke(client, name)[0] == "first in steel"
    client.delete_function(FunctionName=name)
    wrong = refused(lambda: create(client, arn, f"{registry.host}/{repository}:other"))
    assert wrong[0] == "InvalidParameterValueException" and "s390x" in wrong[1]


def test_what_is_not_there_is_said_as_lambda_says_it(node, registry, arn):
    client = node.client("lambda")
    repository = unique("some")
    digest, _ = registry.push(repository, "1", [{"x": b"x"}])
    absent = "sha256:" + "0" * 64
    for uri in [f"{repository}:none", f"{repository}@{absent}", f"{unique('none')}:1"]:
        uri = f"{registry.host}/{uri}"
        assert refused(lambda: create(client, arn, uri)) == (
            "InvalidParameterValueException", f"Source image {uri} does not exist. Provide a valid source image."
        )
    for uri in ["python:3.12", f"{registry.host}/UPPER:1", f"{registry.host}/{repository}@sha256:12", f"http://{registry.host}/a:1"]:
        assert refused(lambda: create(client, arn, uri)) == (
            "InvalidParameterValueException", f"Source image {uri} is not valid. Provide a valid source image."
        )
    wrong, message = refused(lambda: create(client, arn, "registry.example.com/app:1"))
    assert wrong == "InvalidParameterValueException" and "hawker serve --registry registry.example.com" in message
    # Nothing but registries that are named: not the node itself, not its link.
    for host in [f"127.0.0.1:{node.port}", f"localhost:{registry.port}", "169.254.169.254:80", "[::1]:80"]:
        wrong, message = refused(lambda: create(client, arn, f"{host}/latest/meta-data:1"))
        assert wrong == "InvalidParameterValueException" and f"--registry {host}" in message
    helm = {
        "schemaVersion": 2, "mediaType": f"{OCI}.manifest.v1+json", "layers": [],
        "config": registry.push_blob(repository, b"{}", "application/vnd.cncf.helm.config.v1+json"),
    }
    registry.push_manifest(repository, "helm", helm)
    wrong, message = refused(lambda: create(client, arn, f"{registry.host}/{repository}:helm"))
    assert wrong == "InvalidParameterValueException" and message.startswith("The image manifest, config or layer media type for the source image")
    assert client.list_functions()["Functions"] == []


def test_a_damaged_image_is_never_run(node, registry, bootstrap, arn):
    client = node.client("lambda")
    repository = unique("damaged")
    _, good = registry.push(repository, "1", [{"app/bootstrap": bootstrap}], run_config("tin"))
    name, _ = create(client, arn, f"{registry.host}/{repository}:1")
    active(client, name)
    program = {"app/bootstrap": bootstrap, "more": os.urandom(100_000)}
    for how in ["flipped", "shorter", "longer"]:
        _, bad = registry.push(repository, how, [{**program, "how": how.encode()}], run_config("glass"))
        blob = registry.blob_file(bad["layers"][0]["digest"])
        data = bytearray(blob.read_bytes())
        if how == "flipped":
            data[-10] ^= 1
        blob.write_bytes({"shorter": data[:-1], "longer": data + b"x"}.get(how, data))
        uri = f"{registry.host}/{repository}:{how}"
        client.update_function_code(FunctionName=name, ImageUri=uri)
        state = eventually(lambda: (got := client.get_function_configuration(FunctionName=name))["LastUpdateStatus"] != "InProgress" and got)
        assert (state["State"], state["LastUpdateStatus"], state["LastUpdateStatusReasonCode"]) == ("Active", "Failed", "InvalidImage"), how
        assert "is damaged" in state["LastUpdateStatusReason"]
        assert invoke(client, name)[0] == "first in tin"
        failed, made = create(client, arn, uri, Publish=True)
        assert made["Version"] == "1"
        state = eventually(lambda: (got := client.get_function_configuration(FunctionName=failed))["State"] != "Pending" and got)
        assert (state["State"], state["StateReasonCode"]) == ("Failed", "InvalidImage")
        for options in [{}, {"Qualifier": "1"}]:
            assert refused(lambda: invoke(client, failed, **options)) == (
                "ResourceConflictException",
                "The operation cannot be performed at this time. The function is currently in the following state: Failed",
            )
        # It gets a good one.
        client.update_function_code(FunctionName=failed, ImageUri=f"{registry.host}/{repository}:1")
        active(client, failed)
        assert invoke(client, failed)[0] == "first in tin"
        client.delete_function(FunctionName=failed)
    client.delete_function(FunctionName=name)


def test_a_private_registry_wants_its_user(node, registry, private, bootstrap, arn, registry_credentials):
    client = node.client("lambda")
    private.push("own/app", "1", [{"app/bootstrap": bootstrap}], run_config("gold"))
    uri = f"{private.host}/own/app:1"
    name, _ = create(client, arn, uri)
    active(client, name)
    assert invoke(client, name)[0] == "first in gold"
    client.delete_function(FunctionName=name)
    right = registry_credentials.read_text()
    try:
        for auths in [{}, {private.host: {"auth": basic(password="wrong").removeprefix("Basic ")}}, {registry.host: {"auth": basic().removeprefix("Basic ")}}]:
            registry_credentials.write_text(json.dumps({"auths": auths}))
            wrong, message = refused(lambda: create(client, arn, uri))
            assert wrong == "AccessDeniedException" and message.startswith(f"Lambda does not have permission to access the source image {uri}.")
            assert PASSWORD not in message
    finally:
        registry_credentials.write_text(right)


def test_tokens_and_redirects(node, registry, front, bootstrap, arn, registry_credentials):
    client = node.client("lambda")
    repository = unique("token/app")
    registry.push(repository, "1", [{"app/bootstrap": bootstrap}], run_config("silver"))
    uri = f"{front.host}/{repository}:1"
    right = registry_credentials.read_text()
    try:
        for authorization in [None, basic("me", "p:w")]:
            front.wants_basic = authorization
            auths = {front.host: {"username": "me", "password": "p:w"}} if authorization else {}
            registry_credentials.write_text(json.dumps({"auths": auths}))
            name, _ = create(client, arn, uri)
            active(client, name)
            assert invoke(client, name)[0] == "first in silver"
            client.delete_function(FunctionName=name)
        front.wants_basic = "another"
        assert refused(lambda: create(client, arn, uri))[0] == "AccessDeniedException"
        # It sends to where the node does not go, and the node does not go there.
        front.wants_basic, front.blobs_at = None, f"http://127.0.0.1:{node.port}"
        registry_credentials.write_text("{}")
        wrong, message = refused(lambda: create(client, arn, uri))
        assert wrong == "InvalidParameterValueException" and f"--registry http://127.0.0.1:{node.port}" in message
        # The one the registry answers 400 if it gets a token that it did not ask for: it got none.
        assert not any("Bearer" in line for line in (registry.directory / "log").read_text().splitlines())
    finally:
        front.wants_basic, front.blobs_at = None, f"http://{registry.host}"
        registry_credentials.write_text(right)


def test_a_pull_goes_on_after_a_crash(tmp_path, shared_cache, registry, bootstrap):
    """kill -9 while a function waits for its image: the next start brings it."""
    repository = unique("crash")
    registry.push(repository, "1", [{"app/bootstrap": bootstrap}, {"large": os.urandom(24 << 20)}], run_config("iron"))
    node = Node(tmp_path / "data", "--cache", shared_cache, "--registry", registry.host).start()
    try:
        client = node.client("lambda")
        with role(node) as arn:
            name, made = create(client, arn, f"{registry.host}/{repository}:1")
            assert made["State"] == "Pending"
            node.kill()
            node.start()
            client = node.client("lambda")
            active(client, name)
            assert invoke(client, name)[0] == "first in iron"
            assert client.get_function(FunctionName=name)["Code"]["ResolvedImageUri"].startswith(f"{registry.host}/{repository}@sha256:")
            client.delete_function(FunctionName=name)
        assert node.stop() == 0
    finally:
        if node.process.poll() is None:
            node.kill()


def test_images_of_templates_come_from_registries(node, registry, bootstrap):
    repository = unique("stack")
    first, _ = registry.push(repository, "1", [{"app/bootstrap": bootstrap}], run_config("tin"))
    registry.push(repository, "2", [{"app/bootstrap": bootstrap}], run_config("glass"))
    template = {
        "Transform": "AWS::Serverless-2016-10-31",
        "Parameters": {"Tag": {"Type": "String"}},
        "Resources": {
            "App": {
                "Type": "AWS::Serverless::Function",
                "Properties": {"PackageType": "Image", "ImageUri": {"Fn::Sub": f"{registry.host}/{repository}:${{Tag}}"}, "Timeout": 20},
            }
        },
        "Outputs": {"Name": {"Value": {"Ref": "App"}}},
    }
    stacks, client = node.client("cloudformation"), node.client("lambda")
    stack = unique("stack")
    deploy = dict(StackName=stack, TemplateBody=json.dumps(template), Capabilities=["CAPABILITY_IAM", "CAPABILITY_AUTO_EXPAND"])
    stacks.create_stack(**deploy, Parameters=[{"ParameterKey": "Tag", "ParameterValue": "1"}])
    stacks.get_waiter("stack_create_complete").wait(StackName=stack, WaiterConfig={"Delay": 0.2, "MaxAttempts": 300})
    outputs = stacks.describe_stacks(StackName=stack)["Stacks"][0]["Outputs"]
    name = outputs[0]["OutputValue"]
    assert invoke(client, name)[0] == "first in tin"
    stacks.update_stack(**deploy, Parameters=[{"ParameterKey": "Tag", "ParameterValue": "2"}])
    stacks.get_waiter("stack_update_complete").wait(StackName=stack, WaiterConfig={"Delay": 0.2, "MaxAttempts": 300})
    assert invoke(client, name)[0] == "first in glass"
    # One that is not there changes nothing.
    stacks.update_stack(**deploy, Parameters=[{"ParameterKey": "Tag", "ParameterValue": "none"}])
    eventually(lambda: stacks.describe_stacks(StackName=stack)["Stacks"][0]["StackStatus"] == "UPDATE_ROLLBACK_COMPLETE")
    assert invoke(client, name)[0] == "first in glass"
    stacks.delete_stack(StackName=stack)
    stacks.get_waiter("stack_delete_complete").wait(StackName=stack, WaiterConfig={"Delay": 0.2, "MaxAttempts": 300})


@pytest.mark.parametrize("options, why", [
    (["--registry", "https://a.example/path"], "is not a registry"),
    (["--registry-credentials", "/nowhere/config.json"], "credentials for registries"),
])
def test_settings_that_can_not_be_used_are_said_at_the_start(tmp_path, options, why):
    with pytest.raises(RuntimeError) as e:
        Node(tmp_path / "data", *options).start()
    assert why in str(e.value)
