"""Many clients at once: on one key, beside a hot one, and beside scans that take long."""

import concurrent.futures
import os
import threading

import pytest
from botocore.exceptions import ClientError
from conftest import peak_mib, unique

pytestmark = pytest.mark.local

MOST_MIB = 200


def make(ddb, *keys):
    name = unique("busy")
    ddb.create_table(
        TableName=name, BillingMode="PAY_PER_REQUEST",
        AttributeDefinitions=[{"AttributeName": key, "AttributeType": "S"} for key in keys],
        KeySchema=[{"AttributeName": key, "KeyType": role} for key, role in zip(keys, ("HASH", "RANGE"))],
    )
    ddb.get_waiter("table_exists").wait(TableName=name, WaiterConfig={"Delay": 1})
    return name


def connected(node):
    return node.client("dynamodb", config={"max_pool_connections": 400})


def test_hundreds_of_clients_on_one_key_lose_nothing_and_hold_up_nobody(fresh):
    ddb = connected(fresh)
    table = make(ddb, "id")
    one = {":one": {"N": "1"}}
    key = {"id": {"S": "counter"}}
    ddb.put_item(TableName=table, Item={**key, "n": {"N": "0"}, "version": {"N": "0"}})
    done = threading.Event()
    added = 0

    def add(_):
        nonlocal added
        while not done.is_set():
            ddb.update_item(TableName=table, Key=key, UpdateExpression="ADD n :one", ExpressionAttributeValues=one)
            with lock:
                added += 1

    def change_if_unchanged(_):
        """Reads, and writes if nobody else has: as often as it takes, three times."""
        for _ in range(3):
            while True:
                version = ddb.get_item(TableName=table, Key=key, ConsistentRead=True)["Item"]["version"]
                try:
                    ddb.update_item(
                        TableName=table, Key=key, UpdateExpression="SET version = version + :one",
                        ConditionExpression="version = :v", ExpressionAttributeValues={**one, ":v": version},
                    )
                    break
                except ClientError as e:
                    assert e.response["Error"]["Code"] == "ConditionalCheckFailedException"

    def work_elsewhere(worker):
        """While the hot key stays hot."""
        for n in range(20):
            item = {"id": {"S": f"{worker}-{n}"}, "n": {"N": str(n)}}
            ddb.put_item(TableName=table, Item=item)
            assert ddb.get_item(TableName=table, Key={"id": item["id"]}, ConsistentRead=True)["Item"] == item

    lock = threading.Lock()
    with concurrent.futures.ThreadPoolExecutor(300) as pool:
        adding = [pool.submit(add, n) for n in range(200)]
        try:
            changing = [pool.submit(change_if_unchanged, n) for n in range(20)]
            elsewhere = [pool.submit(work_elsewhere, n) for n in range(10)]
            for work in elsewhere + changing:
                work.result(timeout=300)
        finally:
            done.set()
        for work in adding:
            work.result(timeout=300)
    item = ddb.get_item(TableName=table, Key=key, ConsistentRead=True)["Item"]
    assert (int(item["n"]["N"]), item["version"]) == (added, {"N": "60"})
    assert added > 200
    assert peak_mib(fresh) < MOST_MIB


def test_long_scans_hold_no_memory_and_block_no_writer(fresh):
    ddb = connected(fresh)
    table = make(ddb, "run", "id")
    text = os.urandom(1500).hex()
    items = 24_000

    def put(first):
        puts = [{"PutRequest": {"Item": {"run": {"S": f"{n % 64}"}, "id": {"S": f"old-{n}"}, "text": {"S": text}}}} for n in range(first, first + 25)]
        while puts:
            puts = ddb.batch_write_item(RequestItems={table: puts})["UnprocessedItems"].get(table)

    with concurrent.futures.ThreadPoolExecutor(16) as pool:
        list(pool.map(put, range(0, items, 25)))
    written = threading.Event()

    def scan(segment):
        """From end to end, again and again, until the writers are through; how often, and of how many pages."""
        scans = pages = 0
        while scans == 0 or not written.is_set():
            seen = []
            for page in ddb.get_paginator("scan").paginate(
                TableName=table, Segment=segment, TotalSegments=4, ProjectionExpression="id", ConsistentRead=True,
            ):
                seen += [item["id"]["S"] for item in page["Items"] if item["id"]["S"].startswith("old-")]
                pages += 1
            scans += 1
            # Whatever is written meanwhile: those that were there, each once.
            assert len(set(seen)) == len(seen)
            found[segment] = len(seen)
        return scans, pages

    def search():
        """Reads everything, and finds nothing."""
        while not written.is_set():
            for page in ddb.get_paginator("scan").paginate(TableName=table, FilterExpression="attribute_exists(nowhere)"):
                assert page["Items"] == []

    def write(worker):
        for n in range(100):
            ddb.put_item(TableName=table, Item={"run": {"S": f"{n % 64}"}, "id": {"S": f"new-{worker}-{n}"}, "text": {"S": text}})

    found = {}
    with concurrent.futures.ThreadPoolExecutor(32) as pool:
        scanning = [pool.submit(scan, segment) for segment in range(4)]
        searching = [pool.submit(search) for _ in range(4)]
        try:
            for work in [pool.submit(write, worker) for worker in range(16)]:
                work.result(timeout=300)
        finally:
            written.set()
        for work in scanning + searching:
            work.result(timeout=300)
        # A page is a megabyte.
        assert sum(work.result()[1] for work in scanning) > items * len(text) >> 20
    assert sum(found.values()) == items
    assert ddb.scan(TableName=table, Select="COUNT", Limit=1)["Count"] == 1
    assert peak_mib(fresh) < MOST_MIB
