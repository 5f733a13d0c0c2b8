"""Functions that are WebAssembly components, made by the tools that their languages have for it.

The tools are installed once, pinned, below target/, and so is what they made: that takes longer than the tests.
"""

import hashlib
import json
import pathlib
import shutil
import subprocess
import sys

import pytest

from conftest import ROOT, eventually, unique
from functions import function

HERE = pathlib.Path(__file__).parent / "wasm"
CACHE = ROOT / "target/compat-wasm"
COMPONENTIZE_JS = "0.23.0"
COMPONENTIZE_PY = "0.25.0"

pytestmark = pytest.mark.local


def wit(version):
    """A directory with the WIT of `wasi:http/proxy`, which comes with one of the node's own dependencies."""
    command = ["cargo", "metadata", "--format-version=1", "--locked", "--offline"]
    packages = json.loads(subprocess.check_output(command, cwd=ROOT))["packages"]
    manifest = next(p["manifest_path"] for p in packages if p["name"] == "wasmtime-wasi-http")
    directory = CACHE / f"wit-{version}"
    shutil.rmtree(directory, ignore_errors=True)
    (directory / "deps").mkdir(parents=True)
    for source in (pathlib.Path(manifest).parent / "wit/deps").glob("*.wit"):
        (directory / "deps" / source.name).write_text(source.read_text().replace("0.2.12", version))
    (directory / "world.wit").write_text(
        f"package test:app;\nworld proxy {{\n  include wasi:http/proxy@{version};\n"
        f"  import wasi:cli/environment@{version};\n}}\n"
    )
    return directory


def made(source, tool, make):
    """What `make` makes of a source file: at its first use, or after it changed."""
    digest = hashlib.sha256((tool + source.read_text()).encode()).hexdigest()[:16]
    component = CACHE / f"{source.stem}{source.suffix}-{digest}.wasm"
    if not component.exists():
        new = component.with_suffix(".new")
        make(new)
        new.rename(component)
    return component.read_bytes()


@pytest.fixture(scope="module")
def javascript():
    def make(component):
        tools = CACHE / f"js-{COMPONENTIZE_JS}"
        if not (tools / "done").exists():
            tools.mkdir(parents=True, exist_ok=True)
            (tools / "package.json").write_text("{}")
            package = f"@bytecodealliance/componentize-js@{COMPONENTIZE_JS}"
            subprocess.check_call(["npm", "install", "--no-audit", "--no-fund", package], cwd=tools)
            (tools / "done").touch()
        tool = tools / "node_modules/.bin/componentize-js"
        # Its listener of the event `fetch` speaks 0.2.10 alone.
        subprocess.check_call([tool, HERE / "app.js", "-w", wit("0.2.10"), "-n", "proxy", "-o", component])

    return made(HERE / "app.js", COMPONENTIZE_JS, make)


@pytest.fixture(scope="module")
def python():
    def make(component):
        tools = CACHE / f"py-{COMPONENTIZE_PY}"
        if not (tools / "done").exists():
            subprocess.check_call([sys.executable, "-m", "venv", tools])
            subprocess.check_call([tools / "bin/pip", "install", "-q", f"componentize-py=={COMPONENTIZE_PY}"])
            (tools / "done").touch()
        tool = [tools / "bin/componentize-py", "-d", wit("0.2.12"), "-w", "proxy"]
        subprocess.check_call([*tool, "componentize", "app", "-o", component], cwd=HERE)

    return made(HERE / "app.py", COMPONENTIZE_PY, make)


def compiled(f):
    """Waits until the function answers: its first instance waits for the compiler, perhaps longer than a request
    may wait for an instance."""

    def answers():
        try:
            return f.client.invoke(FunctionName=f.name, Payload=b"{}")
        except f.client.exceptions.TooManyRequestsException:
            return None

    eventually(answers, timeout=300)


OPTIONS = {"runtime": "wasm", "handler": "app.wasm", "Timeout": 60, "MemorySize": 512}


def test_javascript_takes_events(node, javascript):
    with function(node, {"app.wasm": javascript}, **OPTIONS) as f:
        assert f.client.get_function_configuration(FunctionName=f.name)["Runtime"] == "wasm"
        compiled(f)
        event = {"source": "shop", "detail-type": "Sold", "detail": {"n": [1, 2.5, None, "grün"]}}
        assert f.result(event) == {"type": "Sold", "event": event}
        assert f.result([1, 2]) == {"type": "hawker.invoke", "event": [1, 2]}
        f.log("POST / Sold")


def test_python_takes_events(node, python):
    with function(node, {"app.wasm": python}, **OPTIONS) as f:
        compiled(f)
        assert f.result({"a": "grün"}) == {"type": "hawker.invoke", "event": {"a": "grün"}}
        f.log("handling /")


def test_an_object_wakes_a_component(node, javascript):
    s3 = node.client("s3")
    bucket, lam = unique("bucket"), node.client("lambda")
    with function(node, {"app.wasm": javascript}, **OPTIONS) as f:
        compiled(f)
        arn = lam.get_function_configuration(FunctionName=f.name)["FunctionArn"]
        s3.create_bucket(Bucket=bucket)
        lam.add_permission(
            FunctionName=f.name, StatementId="s3", Action="lambda:InvokeFunction", Principal="s3.amazonaws.com"
        )
        notify = {"LambdaFunctionConfigurations": [{"LambdaFunctionArn": arn, "Events": ["s3:ObjectCreated:*"]}]}
        s3.put_bucket_notification_configuration(Bucket=bucket, NotificationConfiguration=notify)
        s3.put_object(Bucket=bucket, Key="a", Body=b"b")
        f.log("com.amazonaws.s3.ObjectCreated:Put")


def test_what_is_no_component_says_so(node):
    with function(node, {"app.wasm": b"\0asm\x01\0\0\0"}, **OPTIONS) as f:
        error = pytest.raises(f.client.exceptions.ClientError, f.invoke, {}).value
        assert "core module" in str(error)
    with function(node, {"readme.txt": "none"}, **OPTIONS) as f:
        error = pytest.raises(f.client.exceptions.ClientError, f.invoke, {}).value
        assert "neither a file `app.wasm`" in str(error)
