"""Real clients against the built binary: each test module gets a node of its own, on a free port, with its data
in a temporary directory, gone when the module ends.

`pytest --aws` runs the tests that can against AWS itself, with the ordinary credentials: a test that fails
there is presumed wrong.
"""

import contextlib
import fcntl
import hashlib
import json
import os
import pathlib
import shutil
import signal
import socket
import subprocess
import sys
import time
import urllib.request
import uuid

import boto3
import botocore.config
import pytest

ROOT = pathlib.Path(__file__).resolve().parents[2]
BINARY = pathlib.Path(os.environ.get("HAWKER_BIN", ROOT / "target/debug/hawker"))
REGION = "us-east-1"
ACCOUNT = "000000000000"
PYTHON_RUNTIME = f"python3.{sys.version_info.minor}"


def pytest_addoption(parser):
    parser.addoption("--aws", action="store_true", help="run against AWS instead of the built binary")


def pytest_collection_modifyitems(config, items):
    if config.getoption("--aws"):
        skip = pytest.mark.skip(reason="looks at the node itself, not at its API")
        for item in items:
            if "local" in item.keywords:
                item.add_marker(skip)


def free_ports(count):
    """Ports that differ: all are held until the last is found."""
    with contextlib.ExitStack() as held:
        sockets = [held.enter_context(socket.socket()) for _ in range(count)]
        for s in sockets:
            s.bind(("127.0.0.1", 0))
        return [s.getsockname()[1] for s in sockets]


def free_port():
    return free_ports(1)[0]


class Node:
    """A `hawker serve` of its own."""

    access_key_id = "AKIATESTTESTTESTTEST"
    secret_access_key = "test/secret+key0123456789abcdefghijklmnop"

    def __init__(self, data, *options, env=None):
        self.data = pathlib.Path(data)
        self.options = options
        self.extra_env = env or {}
        self.port = free_port()
        self.process = None

    @property
    def endpoint(self):
        return f"http://127.0.0.1:{self.port}"

    def start(self):
        self.log = open(self.data.parent / f"{self.data.name}.log", "ab")
        self.process = subprocess.Popen(
            [BINARY, "serve", "--listen", f"127.0.0.1:{self.port}", "--data", self.data, *self.options],
            env={
                **os.environ,
                "HAWKER_ACCESS_KEY_ID": self.access_key_id,
                "HAWKER_SECRET_ACCESS_KEY": self.secret_access_key,
                **self.extra_env,
            },
            stdout=self.log,
            stderr=self.log,
        )
        deadline = time.monotonic() + 60
        while True:
            try:
                with urllib.request.urlopen(f"{self.endpoint}/_hawker/health", timeout=5) as answer:
                    if answer.status == 200:
                        return self
            except OSError:
                pass
            if self.process.poll() is not None or time.monotonic() > deadline:
                raise RuntimeError(f"the node did not start:\n{self.log_text()}")
            time.sleep(0.01)

    def log_text(self):
        return pathlib.Path(self.log.name).read_text(errors="replace")[-20_000:]

    def kill(self):
        """kill -9, as a crash."""
        self.process.kill()
        self.process.wait()

    def stop(self):
        """SIGTERM, and wait for a clean end."""
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
            try:
                return self.process.wait(timeout=60)
            except subprocess.TimeoutExpired:
                self.kill()
                raise
        return self.process.returncode

    def env(self):
        """What a command line client needs to reach this node."""
        clean = {k: v for k, v in os.environ.items() if not k.startswith(("AWS_", "HAWKER_"))}
        return {
            **clean,
            "AWS_ACCESS_KEY_ID": self.access_key_id,
            "AWS_SECRET_ACCESS_KEY": self.secret_access_key,
            "AWS_REGION": REGION,
            "AWS_DEFAULT_REGION": REGION,
            "AWS_ENDPOINT_URL": self.endpoint,
            "AWS_EC2_METADATA_DISABLED": "true",
            "AWS_CONFIG_FILE": os.devnull,
            "AWS_PAGER": "",
        }

    def client(self, service, **credentials):
        return boto3.client(
            service,
            endpoint_url=self.endpoint,
            region_name=REGION,
            aws_access_key_id=credentials.get("AccessKeyId", self.access_key_id),
            aws_secret_access_key=credentials.get("SecretAccessKey", self.secret_access_key),
            aws_session_token=credentials.get("SessionToken"),
            config=botocore.config.Config(
                **{
                    "retries": {"max_attempts": 0},
                    "read_timeout": 120,
                    "max_pool_connections": 64,
                    "s3": {"addressing_style": "path"},
                    **credentials.get("config", {}),
                }
            ),
        )

    def hawker(self, *args, check=True, **options):
        """Runs the `hawker` command against this node."""
        done = subprocess.run(
            [BINARY, *map(str, args)], env=self.env(), capture_output=True, text=True, timeout=300, **options
        )
        assert not check or done.returncode == 0, f"{args}:\n{done.stdout}\n{done.stderr}"
        return done

    def aws(self, *args, check=True, **options):
        """Runs the AWS CLI against this node."""
        done = subprocess.run(
            [sys.executable, "-m", "awscli", *map(str, args)],
            env=self.env(), capture_output=True, text=True, timeout=300, **options,
        )
        assert not check or done.returncode == 0, f"{args}:\n{done.stdout}\n{done.stderr}"
        return done


class Aws:
    """AWS itself, for the tests that can run there."""

    def client(self, service, **credentials):
        return boto3.client(service, region_name=REGION, config=botocore.config.Config(**credentials.get("config", {})))


@contextlib.contextmanager
def running(data, *options, env=None):
    node = Node(data, *options, env=env).start()
    try:
        yield node
        assert node.stop() == 0, f"the node did not stop cleanly:\n{node.log_text()}"
    finally:
        if node.process.poll() is None:
            node.kill()


@pytest.fixture
def fresh(tmp_path):
    """A node of its own: the most memory that a process ever had does not go down."""
    with running(tmp_path / "data") as node:
        yield node


def peak_mib(node):
    """The most memory that a node's process ever had."""
    status = pathlib.Path(f"/proc/{node.process.pid}/status").read_text()
    return int(status.split("VmHWM:")[1].split()[0]) / 1024


@pytest.fixture(scope="session")
def shared_cache():
    """Where nodes keep what they prepare once (the Python SDK for functions): shared, since it takes a while."""
    path = ROOT / "target/compat-cache"
    path.mkdir(parents=True, exist_ok=True)
    return path


@pytest.fixture(scope="module")
def node(request, tmp_path_factory, shared_cache):
    if request.config.getoption("--aws"):
        yield Aws()
        return
    data = tmp_path_factory.mktemp("node") / "data"
    with running(data, "--cache", shared_cache) as node:
        yield node


def eventually(probe, timeout=60, interval=0.02):
    """The first true answer of `probe`, which is asked again and again."""
    deadline = time.monotonic() + timeout
    while True:
        if answer := probe():
            return answer
        assert time.monotonic() < deadline, "it did not happen in time"
        time.sleep(interval)


def unique(prefix):
    return f"{prefix}-{uuid.uuid4().hex[:12]}"


def deployed(node, operation, stack, text, **parameters):
    """Makes or changes a stack of a template, waits for it, and gives its outputs."""
    cloudformation = node.client("cloudformation")
    getattr(cloudformation, operation)(
        StackName=stack, TemplateBody=text, Capabilities=["CAPABILITY_IAM", "CAPABILITY_AUTO_EXPAND"],
        Parameters=[{"ParameterKey": name, "ParameterValue": value} for name, value in parameters.items()],
    )

    def settled():
        found = cloudformation.describe_stacks(StackName=stack)["Stacks"][0]
        return found if not found["StackStatus"].endswith("_IN_PROGRESS") else None

    found = eventually(settled, 120)
    events = cloudformation.describe_stack_events(StackName=stack)["StackEvents"]
    failed = [(e["LogicalResourceId"], e.get("ResourceStatusReason")) for e in events if "FAILED" in e["ResourceStatus"]]
    assert found["StackStatus"] in ("CREATE_COMPLETE", "UPDATE_COMPLETE"), failed
    return {output["OutputKey"]: output["OutputValue"] for output in found["Outputs"]}


def run(*command, **options):
    """What a program prints; it has to succeed."""
    done = subprocess.run(list(map(str, command)), capture_output=True, text=True, timeout=1200, **options)
    assert done.returncode == 0, f"{command}:\n{done.stdout}\n{done.stderr}"
    return done.stdout


def kept(name, make):
    """A directory below target/ that `make` fills at its first use. Tests that run side by side wait for the one that
    fills it."""
    where = ROOT / "target/compat-kept" / name
    where.parent.mkdir(parents=True, exist_ok=True)
    with open(where.with_name(f"{name}.lock"), "a+") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        lock.seek(0)
        if not (lock.read() == "filled" and where.exists()):
            lock.truncate(0)
            shutil.rmtree(where, ignore_errors=True)
            where.mkdir()
            make(where)
            lock.write("filled")
    return where


def pinned(name, *what):
    """A name that changes with the texts that say how it is made: versions, sources."""
    return f"{name}-{hashlib.sha256(chr(0).join(what).encode()).hexdigest()[:16]}"


def npm(*packages, compiled=()):
    """Packages from npm; those that are compiled when they are installed are named once more."""

    def make(where):
        (where / "package.json").write_text(json.dumps({"private": True, "allowScripts": dict.fromkeys(compiled, True)}))
        # The headers of Node.js are those that are here.
        env = {**os.environ, "npm_config_nodedir": "/usr"} if compiled else None
        run("npm", "install", "--no-audit", "--no-fund", "--loglevel=error", *packages, cwd=where, env=env)

    return make


def npm_ci(source):
    """Fills a directory with the packages that a lock beside `source` names."""

    def make(where):
        for name in ("package.json", "package-lock.json"):
            shutil.copy(source / name, where)
        run("npm", "ci", "--no-audit", "--no-fund", "--loglevel=error", cwd=where)

    return make


def venv(*arguments):
    """Makes a Python environment, with what pip installs of these arguments."""

    def make(where):
        run(sys.executable, "-m", "venv", where)
        run(where / "bin/python", "-m", "pip", "install", "--quiet", "--disable-pip-version-check", *arguments)

    return make


def programs(name, requirements):
    """Where the programs of a file of requirements are: in an environment of their own."""
    return kept(pinned(name, requirements.read_text()), venv("-r", requirements)) / "bin"
