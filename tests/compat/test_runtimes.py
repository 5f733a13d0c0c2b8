"""The official clients of Lambda's Runtime API run unmodified, and so do the examples of Powertools."""

import json
import pathlib
import shutil
import sys

import pytest
from conftest import PYTHON_RUNTIME, ROOT, kept, npm, run, unique
from functions import function

HERE = pathlib.Path(__file__).parent


def files(directory):
    """Everything in a directory, for a package."""
    return {
        str(path.relative_to(directory)): (path.read_bytes(), path.stat().st_mode & 0o777)
        for path in sorted(directory.rglob("*"))
        if path.is_file() and "__pycache__" not in path.parts
    }


def pip(version, *packages):
    """Packages from PyPI for that Python."""
    return lambda target: run(
        sys.executable, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--only-binary=:all:",
        "--python-version", version, "--target", target, *packages,
    )


EVENT_V2 = {
    "version": "2.0", "routeKey": "$default", "rawPath": "/photos/cat", "rawQueryString": "name=ada",
    "headers": {"host": "example.com"}, "isBase64Encoded": False,
    "requestContext": {
        "accountId": "000000000000", "apiId": "x", "domainName": "x", "domainPrefix": "x", "requestId": "x",
        "routeKey": "$default", "stage": "$default", "time": "12/Mar/2026:19:03:58 +0000", "timeEpoch": 1583348638390,
        "http": {"method": "GET", "path": "/photos/cat", "protocol": "HTTP/1.1", "sourceIp": "1.2.3.4", "userAgent": "x"},
    },
}  # fmt: skip


# AWS's client for Python.

RIC_PYTHON = "4.2.2"


def test_awslambdaric(node):
    python = "/usr/bin/python3"
    version = run(python, "-c", "import sys; print('%d.%d' % sys.version_info[:2])").strip()
    package = files(kept(f"awslambdaric-{RIC_PYTHON}-{version}", pip(version, f"awslambdaric=={RIC_PYTHON}")))
    package["bootstrap"] = (f"#!/bin/sh\nexec {python} -m awslambdaric app.handler\n", 0o755)
    package["app.py"] = """
import logging
def handler(event, context):
    logging.getLogger().warning('careful')
    if event.get('fail'): raise ValueError('no such thing')
    return {'got': event, 'name': context.function_name, 'left': context.get_remaining_time_in_millis() > 0}
"""
    with function(node, package, runtime="provided.al2023") as fn:
        for _ in range(2):
            assert fn.result({"grüße": 1}) == {"got": {"grüße": 1}, "name": fn.name, "left": True}
        answer, error = fn.invoke({"fail": True})
        assert answer["FunctionError"] == "Unhandled"
        assert (error["errorType"], error["errorMessage"]) == ("ValueError", "no such thing")
        assert fn.result({}) == {"got": {}, "name": fn.name, "left": True}
        assert any("careful" in line for line in fn.log("careful"))


# AWS's client for Node.js.

RIC_NODE = "4.0.2"


@pytest.mark.skipif(
    not (shutil.which("cmake") and shutil.which("g++")) or not pathlib.Path("/usr/include/node/node_api.h").exists(),
    reason="aws-lambda-ric is compiled when it is installed: by CMake and C++, with the headers of Node.js",
)
def test_aws_lambda_ric(node):
    name = f"aws-lambda-ric-{RIC_NODE}"
    modules = kept(name, npm(f"aws-lambda-ric@{RIC_NODE}", compiled=["aws-lambda-ric"])) / "node_modules"
    package = {}
    for module in ("aws-lambda-ric", "@aws/lambda-invoke-store"):
        found = files(modules / module).items()
        # Its sources are no part of it.
        package |= {f"node_modules/{module}/{path}": file for path, file in found if not path.startswith(("deps/", "src/"))}
    package["bootstrap"] = ("#!/bin/sh\nexec /usr/bin/node node_modules/aws-lambda-ric/index.mjs app.handler\n", 0o755)
    package["app.js"] = """
exports.handler = async (event, context) => {
  console.warn('careful')
  if (event.fail) throw new TypeError('no such thing')
  return { got: event, name: context.functionName, left: context.getRemainingTimeInMillis() > 0 }
}
"""
    with function(node, package, runtime="provided.al2023", MemorySize=256) as fn:
        for _ in range(2):
            assert fn.result({"grüße": 1}) == {"got": {"grüße": 1}, "name": fn.name, "left": True}
        answer, error = fn.invoke({"fail": True})
        assert answer["FunctionError"] == "Unhandled"
        assert (error["errorType"], error["errorMessage"]) == ("TypeError", "no such thing")
        assert fn.result({}) == {"got": {}, "name": fn.name, "left": True}
        assert any("careful" in line for line in fn.log("careful"))


# AWS's crates for Rust.


@pytest.fixture(scope="module")
def rust():
    """The programs of fixtures/rust-functions."""
    crate, target = HERE / "fixtures/rust-functions", ROOT / "target/compat-rust"
    run("cargo", "build", "--quiet", "--locked", "--manifest-path", crate / "Cargo.toml", "--target-dir", target)
    return lambda name: {"bootstrap": ((target / "debug" / name).read_bytes(), 0o755)}


def test_lambda_runtime(node, rust):
    with function(node, rust("events"), runtime="provided.al2023", MemorySize=256) as fn:
        for _ in range(2):
            result = fn.result({"a": [1]})
            assert len(result.pop("id")) == 36
            assert result == {"got": {"a": [1]}, "name": fn.name, "memory": 256}
        answer, error = fn.invoke({"fail": "no such photo"})
        assert answer["FunctionError"] == "Unhandled"
        assert error["errorMessage"] == "no such photo"
        answer, error = fn.invoke({"panic": True})
        assert answer["FunctionError"] == "Unhandled"
        assert "as it was told to" in error["errorMessage"]
        assert fn.result({})["got"] == {}
        assert any("handled" in line for line in fn.log("handled"))


def test_lambda_runtime_streams(node, rust):
    with function(node, rust("stream"), runtime="provided.al2023") as fn:
        answer = fn.client.invoke(FunctionName=fn.name, Payload=b"{}")
        assert answer["Payload"].read().endswith(b"one two three")
        assert "FunctionError" not in answer
        # This client writes what it says of an error in the middle as the end of the body, not as trailers.
        answer = fn.client.invoke(FunctionName=fn.name, Payload=b'{"fail": true}')
        assert b"Runtime.StreamError" in answer["Payload"].read()
        answer = fn.client.invoke(FunctionName=fn.name, Payload=b"{}")
        assert answer["Payload"].read().endswith(b"one two three")


def test_lambda_http(node, rust):
    with function(node, rust("http"), runtime="provided.al2023") as fn:
        result = fn.result(EVENT_V2)
        assert (result["statusCode"], result["body"]) == (201, "GET /photos/cat from ada")
        assert result["headers"]["x-own"] == "1"


# Powertools for Python.

POWERTOOLS = "3.37.0"

SQS_EVENT = {
    "Records": [
        {
            "messageId": f"id-{number}", "receiptHandle": "x", "body": json.dumps({"number": number}),
            "attributes": {
                "ApproximateReceiveCount": "1", "SentTimestamp": "1545082649183", "SenderId": "x",
                "ApproximateFirstReceiveTimestamp": "1545082649185",
            },
            "messageAttributes": {}, "md5OfBody": "x", "eventSource": "aws:sqs",
            "eventSourceARN": "arn:aws:sqs:us-east-1:000000000000:queue", "awsRegion": "us-east-1",
        }
        for number in range(3)
    ]
}  # fmt: skip


@pytest.fixture(scope="module")
def powertools():
    version = PYTHON_RUNTIME.removeprefix("python")
    make = pip(version, f"aws-lambda-powertools[parser,tracer]=={POWERTOOLS}")
    return files(kept(f"powertools-{POWERTOOLS}-{version}", make))


@pytest.fixture
def table(node):
    """The table that Powertools keeps what was done in, as its documentation says to make it."""
    dynamodb = node.client("dynamodb")
    name = unique("idempotency")
    dynamodb.create_table(
        TableName=name, BillingMode="PAY_PER_REQUEST",
        KeySchema=[{"AttributeName": "id", "KeyType": "HASH"}],
        AttributeDefinitions=[{"AttributeName": "id", "AttributeType": "S"}],
    )  # fmt: skip
    dynamodb.get_waiter("table_exists").wait(TableName=name, WaiterConfig={"Delay": 1})
    yield name
    dynamodb.delete_table(TableName=name)


def may_use(table):
    return {
        "Effect": "Allow",
        "Action": ["dynamodb:GetItem", "dynamodb:PutItem", "dynamodb:UpdateItem", "dynamodb:DeleteItem"],
        "Resource": f"arn:aws:dynamodb:us-east-1:000000000000:table/{table}",
    }


def environment(**more):
    return {"Variables": {"POWERTOOLS_SERVICE_NAME": "album", "POWERTOOLS_METRICS_NAMESPACE": "photos", **more}}


def objects(lines):
    return [json.loads(line) for line in lines if line.startswith("{")]


def test_powertools_logger_tracer_and_metrics(node, powertools):
    text = """
from aws_lambda_powertools import Logger, Metrics, Tracer
from aws_lambda_powertools.metrics import MetricUnit
logger, metrics, tracer = Logger(), Metrics(), Tracer()

@tracer.capture_method
def collect(name):
    tracer.put_annotation(key='name', value=name)
    return f'photo of {name}'

@logger.inject_lambda_context(log_event=True)
@tracer.capture_lambda_handler
@metrics.log_metrics(capture_cold_start_metric=True)
def handler(event, context):
    metrics.add_metric(name='Photos', unit=MetricUnit.Count, value=1)
    logger.info('collecting', photo=event['name'])
    return collect(event['name'])
"""
    with function(node, {**powertools, "app.py": text}, Environment=environment(), Timeout=60) as fn:
        assert fn.result({"name": "cat"}) == "photo of cat"
        assert fn.result({"name": "dog"}) == "photo of dog"
        lines = objects(fn.log("dog"))
        collecting = [line for line in lines if line.get("message") == "collecting"]
        assert [line["photo"] for line in collecting] == ["cat", "dog"]
        assert collecting[0]["service"] == "album"
        assert (collecting[0]["cold_start"], collecting[1]["cold_start"]) == (True, False)
        assert collecting[0]["function_name"] == fn.name
        assert any(line.get("Photos") == [1] and line["_aws"]["CloudWatchMetrics"] for line in lines)


def test_powertools_parser_and_batch(node, powertools):
    text = """
from aws_lambda_powertools.utilities.batch import BatchProcessor, EventType, process_partial_response
from aws_lambda_powertools.utilities.parser import BaseModel, event_parser
from aws_lambda_powertools.utilities.parser.models import SqsModel
from pydantic import Json

class Order(BaseModel):
    number: int

processor = BatchProcessor(event_type=EventType.SQS)

def one(record):
    order = Order.model_validate_json(record.body)
    if order.number == 1: raise ValueError('not this one')

@event_parser(model=SqsModel)
def parsed(event, context):
    return [record.messageId for record in event.Records]

def handler(event, context):
    if event.get('parse'): return parsed(event, context)
    return process_partial_response(event=event, record_handler=one, processor=processor, context=context)
"""
    with function(node, {**powertools, "app.py": text}, Environment=environment(), Timeout=60) as fn:
        assert fn.result(SQS_EVENT) == {"batchItemFailures": [{"itemIdentifier": "id-1"}]}
        assert fn.result({**SQS_EVENT, "parse": True}) == ["id-0", "id-1", "id-2"]


def test_powertools_idempotency(node, powertools, table):
    text = """
import os, uuid
from aws_lambda_powertools.utilities.idempotency import DynamoDBPersistenceLayer, IdempotencyConfig, idempotent
persistence = DynamoDBPersistenceLayer(table_name=os.environ['TABLE'])
config = IdempotencyConfig(event_key_jmespath='order')

@idempotent(persistence_store=persistence, config=config)
def handler(event, context):
    if event.get('fail'): raise RuntimeError('not now')
    return {'payment': str(uuid.uuid4())}
"""
    package = {**powertools, "app.py": text}
    with function(node, package, may_use(table), Environment=environment(TABLE=table), Timeout=60) as fn:
        first = fn.result({"order": "1"})
        assert fn.result({"order": "1"}) == first
        assert fn.result({"order": "2"}) != first
        # What failed may be tried again.
        assert fn.invoke({"order": "3", "fail": True})[0]["FunctionError"] == "Unhandled"
        assert "payment" in fn.result({"order": "3"})


# Powertools for TypeScript.

POWERTOOLS_TS = {
    "logger": "2.36.0", "tracer": "2.36.0", "metrics": "2.36.0", "parser": "2.35.0", "batch": "2.35.0",
    "idempotency": "2.35.0",
}  # fmt: skip


@pytest.fixture(scope="module")
def typescript():
    """Compiles a function with everything that it imports."""
    modules = kept(
        f"powertools-ts-{POWERTOOLS_TS['logger']}",
        npm(
            *(f"@aws-lambda-powertools/{tool}@{version}" for tool, version in POWERTOOLS_TS.items()),
            "@aws-sdk/client-dynamodb@3", "@aws-sdk/lib-dynamodb@3", "@middy/core@6", "zod@4", "esbuild@0.28",
        ),
    )  # fmt: skip

    def build(text):
        source = modules / f"{unique('source')}.ts"
        source.write_text(text)
        try:
            bundle = run(
                modules / "node_modules/.bin/esbuild", source, "--bundle", "--platform=node", "--target=node20",
                "--log-level=error", cwd=modules,
            )  # fmt: skip
        finally:
            source.unlink()
        return {"app.js": bundle}

    return build


def test_powertools_ts_logger_tracer_and_metrics(node, typescript):
    text = """
import { Logger } from '@aws-lambda-powertools/logger';
import { injectLambdaContext } from '@aws-lambda-powertools/logger/middleware';
import { Metrics, MetricUnit } from '@aws-lambda-powertools/metrics';
import { logMetrics } from '@aws-lambda-powertools/metrics/middleware';
import { Tracer } from '@aws-lambda-powertools/tracer';
import { captureLambdaHandler } from '@aws-lambda-powertools/tracer/middleware';
import middy from '@middy/core';

const logger = new Logger();
const metrics = new Metrics();
const tracer = new Tracer();

export const handler = middy(async (event: { name: string }): Promise<string> => {
  logger.info('collecting', { photo: event.name });
  metrics.addMetric('Photos', MetricUnit.Count, 1);
  tracer.putAnnotation('name', event.name);
  return `photo of ${event.name}`;
})
  .use(captureLambdaHandler(tracer))
  .use(injectLambdaContext(logger))
  .use(logMetrics(metrics, { captureColdStartMetric: true }));
"""
    with function(node, typescript(text), runtime="nodejs20.x", Environment=environment(), Timeout=60) as fn:
        assert fn.result({"name": "cat"}) == "photo of cat"
        assert fn.result({"name": "dog"}) == "photo of dog"
        lines = objects(fn.log("dog"))
        collecting = [line for line in lines if line.get("message") == "collecting"]
        assert [line["photo"] for line in collecting] == ["cat", "dog"]
        assert (collecting[0]["cold_start"], collecting[1]["cold_start"]) == (True, False)
        assert collecting[0]["function_name"] == fn.name
        assert any(line.get("Photos") == 1 and line["_aws"]["CloudWatchMetrics"] for line in lines)


def test_powertools_ts_parser_and_batch(node, typescript):
    text = """
import { BatchProcessor, EventType, processPartialResponse } from '@aws-lambda-powertools/batch';
import { parse } from '@aws-lambda-powertools/parser';
import { SqsSchema } from '@aws-lambda-powertools/parser/schemas/sqs';
import { z } from 'zod';

const order = z.object({ number: z.number() });
const processor = new BatchProcessor(EventType.SQS);

export const handler = async (event: any, context: any) => {
  if (event.parse) return parse(event, undefined, SqsSchema).Records.map((record) => record.messageId);
  return processPartialResponse(event, async (record: any) => {
    if (order.parse(JSON.parse(record.body)).number === 1) throw new Error('not this one');
  }, processor, { context });
};
"""
    with function(node, typescript(text), runtime="nodejs20.x", Environment=environment(), Timeout=60) as fn:
        assert fn.result(SQS_EVENT) == {"batchItemFailures": [{"itemIdentifier": "id-1"}]}
        assert fn.result({**SQS_EVENT, "parse": True}) == ["id-0", "id-1", "id-2"]


def test_powertools_ts_idempotency(node, typescript, table):
    text = """
import { randomUUID } from 'node:crypto';
import { IdempotencyConfig, makeIdempotent } from '@aws-lambda-powertools/idempotency';
import { DynamoDBPersistenceLayer } from '@aws-lambda-powertools/idempotency/dynamodb';

const persistenceStore = new DynamoDBPersistenceLayer({ tableName: process.env.TABLE ?? '' });

export const handler = makeIdempotent(async (event: any, _context: any) => {
  if (event.fail) throw new Error('not now');
  return { payment: randomUUID() };
}, { persistenceStore, config: new IdempotencyConfig({ eventKeyJmesPath: 'order' }) });
"""
    options = {"Environment": environment(TABLE=table), "Timeout": 60}
    with function(node, typescript(text), may_use(table), runtime="nodejs20.x", **options) as fn:
        first = fn.result({"order": "1"})
        assert fn.result({"order": "1"}) == first
        assert fn.result({"order": "2"}) != first
        assert fn.invoke({"order": "3", "fail": True})[0]["FunctionError"] == "Unhandled"
        assert "payment" in fn.result({"order": "3"})
