"""Tables that are watched: by signed requests, and by pages in a real browser."""

import contextlib
import json
import os
import shutil
import subprocess
import sys
import threading
import time
import urllib.parse

import pytest
import requests
from botocore.auth import SigV4Auth, SigV4QueryAuth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials
from conftest import PYTHON_RUNTIME, REGION, ROOT, free_port, kept, npm, running, unique

pytestmark = pytest.mark.local
PLAYWRIGHT = "playwright-core@1.65.1"


def lists(node, view="NEW_AND_OLD_IMAGES"):
    name = unique("lists")
    node.client("dynamodb").create_table(
        TableName=name,
        AttributeDefinitions=[
            {"AttributeName": "list", "AttributeType": "S"},
            {"AttributeName": "item", "AttributeType": "S"},
        ],
        KeySchema=[{"AttributeName": "list", "KeyType": "HASH"}, {"AttributeName": "item", "KeyType": "RANGE"}],
        BillingMode="PAY_PER_REQUEST",
        StreamSpecification={"StreamEnabled": True, "StreamViewType": view},
    )
    return name


def request_for(node, table, key=None, in_header=False, **parameters):
    """A signed request; `key` are credentials as IAM and STS hand them out."""
    key = key or {"AccessKeyId": node.access_key_id, "SecretAccessKey": node.secret_access_key}
    credentials = Credentials(key["AccessKeyId"], key["SecretAccessKey"], key.get("SessionToken"))
    parameters = {name: json.dumps(v) if isinstance(v, dict) else v for name, v in parameters.items()}
    query = urllib.parse.urlencode(parameters, quote_via=urllib.parse.quote)
    request = AWSRequest("GET", f"{node.endpoint}/_hawker/tables/{table}/watch?{query}")
    if in_header:
        SigV4Auth(credentials, "hawker", REGION).add_auth(request)
    else:
        SigV4QueryAuth(credentials, "hawker", REGION, expires=60).add_auth(request)
    return request.url, dict(request.headers)


class Watch:
    """A client, event by event."""

    def __init__(self, node, table, **options):
        url, headers = request_for(node, table, **options)
        self.response = requests.get(url, headers=headers, stream=True, timeout=60)
        assert self.response.status_code == 200, self.response.text
        assert self.response.headers["Content-Type"] == "text/event-stream"
        self.lines = self.response.iter_lines(chunk_size=1)
        self.token = None

    def next(self):
        """The next event: its name and data."""
        fields = {}
        for line in self.lines:
            line = line.decode()
            if line:
                name, _, value = line.partition(": ")
                fields[name] = value
            elif "event" in fields:
                self.token = fields.get("id", self.token)
                return fields["event"], json.loads(fields["data"])
            else:
                fields = {}
        return None, None

    def until(self, wanted):
        while True:
            name, data = self.next()
            assert name is not None, f"it ended before {wanted}"
            if name == wanted:
                return data

    def close(self):
        self.response.close()


def put(node, table, list_, item, **more):
    node.client("dynamodb").put_item(TableName=table, Item={"list": {"S": list_}, "item": {"S": item}, **more})


@pytest.mark.parametrize("in_header", [False, True], ids=["presigned", "header"])
def test_items_then_changes(node, in_header):
    table = lists(node)
    put(node, table, "weekend", "milk")
    watch = Watch(node, table, partition={"list": {"S": "weekend"}}, in_header=in_header)
    assert watch.until("open") == {"Keys": ["list", "item"], "Descending": False, "Resumed": False}
    [milk] = watch.until("items")["Items"]
    assert milk["Item"] == milk["Keys"] == {"list": {"S": "weekend"}, "item": {"S": "milk"}}
    watch.until("ready")
    put(node, table, "other", "milk")
    put(node, table, "weekend", "bread", n={"N": "2"})
    change = watch.until("change")
    assert (change["EventName"], change["Item"]["n"]) == ("INSERT", {"N": "2"})
    assert change["Order"] < milk["Order"]
    watch.close()


def test_a_token_outlives_the_node(tmp_path, shared_cache):
    with running(tmp_path / "data", "--cache", shared_cache) as node:
        table = lists(node)
        watch = Watch(node, table, partition={"list": {"S": "a"}})
        watch.until("ready")
        put(node, table, "a", "seen")
        watch.until("change")
        put(node, table, "a", "missed")
        node.kill()
        node.start()
        put(node, table, "a", "later")
        again = Watch(node, table, partition={"list": {"S": "a"}}, token=watch.token)
        assert again.until("open")["Resumed"]
        names = [again.until("change")["Keys"]["item"]["S"] for _ in range(2)]
        assert names == ["missed", "later"]
        again.until("ready")
        # As browsers do it.
        url, headers = request_for(node, table, partition={"list": {"S": "a"}}, token=watch.token)
        answer = requests.get(url, headers={**headers, "Last-Event-ID": again.token}, stream=True, timeout=60)
        lines = answer.iter_lines(chunk_size=1)
        assert any(line == b"event: ready" for line in lines)
        answer.close()
        # The node stops without waiting for those who listen.
        began = time.monotonic()
        watcher = Watch(node, table, partition={"list": {"S": "a"}})
        watcher.until("ready")
        stopping = threading.Thread(target=node.stop)
        stopping.start()
        assert watcher.until("end")["Reason"] == "NodeStopping"
        stopping.join()
        assert time.monotonic() - began < 25


@contextlib.contextmanager
def user(node, *statements):
    iam = node.client("iam")
    name = unique("user")
    iam.create_user(UserName=name)
    key = iam.create_access_key(UserName=name)["AccessKey"]
    document = {"Version": "2012-10-17", "Statement": list(statements)}
    iam.put_user_policy(UserName=name, PolicyName="p", PolicyDocument=json.dumps(document))
    yield name, key
    iam.delete_user_policy(UserName=name, PolicyName="p")
    iam.delete_access_key(UserName=name, AccessKeyId=key["AccessKeyId"])
    iam.delete_user(UserName=name)


def test_each_user_may_watch_their_own(node):
    table = lists(node)
    statement = {
        "Effect": "Allow", "Action": "dynamodb:Query", "Resource": f"arn:aws:dynamodb:*:*:table/{table}",
        "Condition": {"ForAllValues:StringEquals": {"dynamodb:LeadingKeys": ["${aws:username}"]}},
    }
    with user(node, statement) as (name, key):
        url, headers = request_for(node, table, key=key, partition={"list": {"S": "somebody else"}})
        refused = requests.get(url, headers=headers, timeout=60)
        assert refused.status_code == 403 and "dynamodb:Query" in refused.text
        assert refused.headers["Access-Control-Allow-Origin"] == "*"
        watch = Watch(node, table, key=key, partition={"list": {"S": name}})
        watch.until("ready")
        put(node, table, name, "mine")
        assert watch.until("change")["EventName"] == "INSERT"
        # Rights are looked at again.
        node.client("iam").put_user_policy(
            UserName=name, PolicyName="p",
            PolicyDocument=json.dumps({"Version": "2012-10-17", "Statement": [{**statement, "Effect": "Deny"}]}),
        )
        assert watch.until("end")["Reason"] == "AccessDenied"
    url, headers = request_for(node, table, key=key, partition={"list": {"S": name}})
    assert requests.get(url, headers=headers, timeout=60).status_code == 403
    assert requests.get(f"{node.endpoint}/_hawker/tables/{table}/watch?partition=x", timeout=60).status_code == 403


def test_a_table_may_be_watched_as_long_as_its_policy_lets_one(node):
    table, client = lists(node), node.client("dynamodb")
    arn = client.describe_table(TableName=table)["Table"]["TableArn"]
    harmless = {"Effect": "Allow", "Action": "dynamodb:ListTables", "Resource": "*"}
    with user(node, harmless) as (name, key):
        principal = {"AWS": node.client("iam").get_user(UserName=name)["User"]["Arn"]}
        statement = {"Effect": "Allow", "Principal": principal, "Action": "dynamodb:Query", "Resource": arn}
        client.put_resource_policy(
            ResourceArn=arn, Policy=json.dumps({"Version": "2012-10-17", "Statement": [statement]}))
        watch = Watch(node, table, key=key, partition={"list": {"S": "ours"}})
        watch.until("ready")
        client.delete_resource_policy(ResourceArn=arn)
        assert watch.until("end")["Reason"] == "AccessDenied"


def test_the_client_in_node(node):
    table = lists(node)
    for n in range(200):
        put(node, table, "a", f"{n:03}", n={"N": str(n)}, big={"N": "12345678901234567890"}, set={"SS": ["x"]})
    script = """
        const [module, endpoint, accessKeyId, secretAccessKey, table] = process.argv.slice(1);
        const { watch } = await import(module);
        const live = watch({
          endpoint, table, credentials: async () => ({ accessKeyId, secretAccessKey }),
          query: { KeyConditionExpression: "#l = :l AND #i >= :i", ScanIndexForward: false,
                   ExpressionAttributeNames: { "#l": "list", "#i": "item" },
                   ExpressionAttributeValues: { ":l": { S: "a" }, ":i": { S: "100" } } },
          onReady: (items) => console.log(JSON.stringify({ ready: items.length, first: items[0].n,
            big: items[0].big, set: [...items[0].set] })),
          onChange: ({ type, key, item }) => {
            console.log(JSON.stringify({ type, key: key.item, n: item?.n }));
            if (type === "remove") live.close();
          },
          onError: (error) => { console.error(error); },
        });
    """
    done = subprocess.Popen(
        ["node", "--input-type=module", "-e", script, (ROOT / "clients/javascript/watch.js").as_uri(), node.endpoint,
         node.access_key_id, node.secret_access_key, table],
        stdout=subprocess.PIPE, text=True,
    )
    try:
        assert json.loads(done.stdout.readline()) == {
            "ready": 100, "first": 199, "big": "12345678901234567890", "set": ["x"]}
        put(node, table, "a", "050", n={"N": "0"})
        put(node, table, "a", "150", n={"N": "-1"})
        assert json.loads(done.stdout.readline()) == {"type": "modify", "key": "150", "n": -1}
        node.client("dynamodb").delete_item(TableName=table, Key={"list": {"S": "a"}, "item": {"S": "150"}})
        assert json.loads(done.stdout.readline()) == {"type": "remove", "key": "150"}
        assert done.wait(timeout=60) == 0
    finally:
        done.kill()


@pytest.fixture(scope="module")
def playwright():
    """Drives Debian's browser: see scripts/debian-packages."""
    subprocess.check_call([ROOT / "scripts/debian-packages", "chromium"])
    return kept(PLAYWRIGHT, npm(PLAYWRIGHT))


@contextlib.contextmanager
def shop(node, table):
    """The example's page, served from this machine; yields its address."""
    port = free_port()
    serve = ROOT / "examples/shopping-list/serve.py"
    process = subprocess.Popen([sys.executable, serve, str(port)], env={**node.env(), "TABLE": table}, stdout=subprocess.PIPE)
    try:
        process.stdout.readline()
        yield f"http://localhost:{port}"
    finally:
        process.kill()
        process.wait()


@contextlib.contextmanager
def deployed(node, source):
    """The example as it is meant: a function serves the page. Yields the table and the page's address."""
    shutil.copytree(ROOT / "examples/shopping-list", source)
    template = source / "template.yaml"
    template.write_text(template.read_text().replace("python3.12", PYTHON_RUNTIME))
    done = node.hawker("deploy", source, "--stack-name", "shopping-list", "--yes", "--json")
    outputs = json.loads(done.stdout)["outputs"]
    # Browsers take every name below localhost to this machine.
    yield outputs["ListTable"], outputs["Page"].rstrip("/")


BROWSERS = """
    import { createRequire } from "node:module";
    const [tools, base, transport, pictures] = process.argv.slice(1);
    const { chromium } = createRequire(tools + "/")("playwright-core");
    const browser = await chromium.launch({ executablePath: "/usr/bin/chromium", args: ["--no-sandbox"] });
    const open = async (name) => {
      const context = await browser.newContext({ viewport: { width: 560, height: 520 } });
      const page = await context.newPage();
      page.on("console", (message) => console.error(name, message.text()));
      page.on("pageerror", (error) => console.error(name, error));
      await page.goto(`${base}/?transport=${transport}#weekend`);
      await page.waitForSelector("#state[data-state=live]");
      return page;
    };
    const [ann, ben] = [await open("ann"), await open("ben")];
    const add = async (page, name) => {
      await page.fill("#name", name);
      await page.click("#add button");
    };
    const shows = (page, names) => page.waitForFunction(
      (names) => JSON.stringify([...document.querySelectorAll("li span")].map((s) => s.textContent)) === JSON.stringify(names),
      names);
    await add(ann, "Milk");
    await shows(ben, ["Milk"]);
    await add(ben, "Bread <b>");
    await add(ann, "Eggs");
    for (const page of [ann, ben]) await shows(page, ["Milk", "Bread <b>", "Eggs"]);
    await ben.click("li:nth-child(1) input");
    await ann.waitForSelector("li.done:nth-child(1)");
    if (pictures) await Promise.all([ann, ben].map((page, i) => page.screenshot({ path: `${pictures}/${transport}-${i}.png` })));
    console.log("READY");
    // The node goes away and comes back; what happened meanwhile is there.
    await new Promise((resolve) => process.stdin.once("data", resolve));
    await ann.waitForSelector("#state:not([data-state=live])");
    if (pictures) await ann.screenshot({ path: `${pictures}/${transport}-lost.png` });
    console.log("LOST");
    await new Promise((resolve) => process.stdin.once("data", resolve));
    for (const page of [ann, ben]) await shows(page, ["Milk", "Bread <b>", "Eggs", "Butter"]);
    await ann.click("li:nth-child(2) button");
    for (const page of [ann, ben]) await shows(page, ["Milk", "Eggs", "Butter"]);
    await browser.close();
    console.log("DONE");
    process.exit(0);
"""


@pytest.mark.parametrize("transport", ["events", "websocket"])
def test_two_browsers_share_a_list(tmp_path, shared_cache, playwright, transport):
    with running(tmp_path / "data", "--cache", shared_cache) as node:
        table = lists(node, "NEW_IMAGE")
        with shop(node, table) as base:
            browse(node, table, base, playwright, transport)


def test_a_function_serves_the_list(tmp_path, shared_cache, playwright):
    with running(tmp_path / "data", "--cache", shared_cache) as node:
        with deployed(node, tmp_path / "shopping-list") as (table, base):
            browse(node, table, base, playwright, "events")


def browse(node, table, base, playwright, transport):
    pictures = os.environ.get("HAWKER_PICTURES", "")
    process = subprocess.Popen(
        ["node", "--input-type=module", "-e", BROWSERS, playwright, base, transport, pictures],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
    )

    def expect(word):
        line = process.stdout.readline().strip()
        assert line == word, f"instead of {word}: {line}"

    def say():
        process.stdin.write("go\n")
        process.stdin.flush()

    try:
        expect("READY")
        node.kill()
        say()
        expect("LOST")
        node.start()
        put(node, table, "weekend", "9", **{"name": {"S": "Butter"}, "done": {"BOOL": False}})
        say()
        expect("DONE")
        assert process.wait(timeout=60) == 0
    finally:
        process.kill()
        process.wait()
