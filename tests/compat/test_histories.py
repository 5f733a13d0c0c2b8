"""What many clients see of tables, with crashes in the middle, has an order that explains it: see `histories`.

`HAWKER_SEED=...` repeats a run as far as threads let it."""

import os
import random
import threading
import time

import pytest
from botocore.exceptions import BotoCoreError, ClientError, ConnectTimeoutError, EndpointConnectionError, HTTPClientError
from conftest import Node
from histories import UNKNOWN, Operation, Transaction, anomalies, linearizable

pytestmark = pytest.mark.local
CRASHES = 5
REGISTERS, LISTS = 6, 5
REGISTER_CLIENTS, LIST_CLIENTS = 10, 8


def op(name, argument, answer, began, ended):
    return Operation(name, argument, answer, began, ended)


FINE = {
    "one after the other": [op("write", 1, True, 0, 1), op("read", None, 1, 2, 3), op("add", 2, 3, 4, 5)],
    "a read at the same time sees either": [op("write", 1, True, 0, 9), op("read", None, None, 1, 2), op("read", None, 1, 3, 4)],
    "an unknown write takes effect late": [
        op("write", 1, True, 0, 1), op("write", 2, UNKNOWN, 2, None), op("read", None, 1, 3, 4), op("read", None, 2, 5, 6)],
    "an unknown write never takes effect": [op("write", 2, UNKNOWN, 0, None), op("read", None, None, 1, 2), op("create", 5, True, 3, 4)],
    "one of two swaps wins": [op("write", 1, True, 0, 1), op("swap", (1, 2), True, 2, 5), op("swap", (1, 3), False, 2, 5), op("read", None, 2, 6, 7)],
    "counters": [op("add", 1, n, 0, 100) for n in range(8, 0, -1)],
    "a search that has to turn back": [
        op("write", 1, True, 0, 10), op("write", 2, True, 0, 10), op("write", 3, True, 0, 10),
        op("read", None, 2, 11, 12), op("delete", None, 2, 13, 14), op("read", None, None, 15, 16)],
}
BROKEN = {
    "a stale read": [op("write", 1, True, 0, 1), op("write", 2, True, 2, 3), op("read", None, 1, 4, 5)],
    "a lost write": [op("write", 1, True, 0, 1), op("read", None, None, 2, 3)],
    "a lost increment": [op("add", 1, 1, 0, 1), op("add", 1, 1, 2, 3)],
    "an increment done twice": [op("add", 1, 1, 0, 1), op("add", 1, 3, 2, 3)],
    "two swaps of one value win": [op("write", 1, True, 0, 1), op("swap", (1, 2), True, 2, 5), op("swap", (1, 3), True, 2, 5)],
    "a refused swap was done": [op("write", 1, True, 0, 1), op("swap", (1, 2), False, 2, 3)],
    "time goes back": [op("write", 1, True, 0, 20), op("read", None, 1, 1, 2), op("read", None, None, 3, 4)],
    "an unknown write is seen, then not": [
        op("write", 2, UNKNOWN, 0, None), op("read", None, 2, 1, 2), op("read", None, None, 3, 4)],
    "created twice": [op("create", 1, True, 0, 5), op("create", 2, True, 0, 5)],
}


@pytest.mark.parametrize("history", FINE.values(), ids=FINE)
def test_a_history_with_an_order_is_fine(history):
    assert linearizable(history)


@pytest.mark.parametrize("history", BROKEN.values(), ids=BROKEN)
def test_a_history_without_an_order_is_not(history):
    assert not linearizable(history)


T = Transaction
WRONG = {
    "a lost append": ([T(0, 1, [("a", 1)]), T(2, 3, [("a", 2)])], {"a": [1]}),
    "half a transaction": ([T(0, 1, [("a", 1), ("b", 1)], done=UNKNOWN)], {"a": [1], "b": []}),
    "a refused append": ([T(0, 1, [("a", 1)], done=False)], {"a": [1]}),
    "an append done twice": ([T(0, 1, [("a", 1)])], {"a": [1, 1]}),
    "a list that never was": ([T(0, 1, [("a", 1)]), T(2, 3, [("a", 2)]), T(4, 5, reads={"a": [2]})], {"a": [1, 2]}),
    "a stale read": ([T(0, 1, [("a", 1)]), T(2, 3, reads={"a": []})], {"a": [1]}),
    "half seen": (
        [T(0, 9, [("a", 1), ("b", 1)]), T(0, 9, reads={"a": [1], "b": []})], {"a": [1], "b": [1]}),
    "two readers see two writes in two orders": (
        [T(0, 9, [("a", 1)]), T(0, 9, [("b", 1)]), T(0, 9, reads={"a": [1], "b": []}), T(0, 9, reads={"a": [], "b": [1]})],
        {"a": [1], "b": [1]}),
    "two writers cross": (
        [T(0, 9, [("a", 1), ("b", 1)]), T(0, 9, [("a", 2), ("b", 2)])], {"a": [1, 2], "b": [2, 1]}),
    "against real time": ([T(5, 6, [("a", 1)]), T(0, 1, [("a", 2)])], {"a": [1, 2]}),
}


@pytest.mark.parametrize("history", WRONG.values(), ids=WRONG)
def test_an_anomaly_is_found(history):
    transactions, final = history
    assert anomalies(transactions, final)


def test_transactions_with_an_order_are_fine():
    transactions = [
        T(0, 9, [("a", 1), ("b", 1)]), T(0, 9, [("a", 2), ("b", 2)]), T(1, 5, reads={"a": [1], "b": [1]}),
        T(10, 11, reads={"a": [1, 2], "b": [1, 2]}), T(12, done=UNKNOWN, appends=[("a", 3)]), T(12, 13, [("b", 4)], done=False),
    ]
    assert anomalies(transactions, {"a": [1, 2], "b": [1, 2]}) == []
    assert anomalies(transactions, {"a": [1, 2, 3], "b": [1, 2]}) == []


class Recorder:
    """Clients that ask and note what they are told, and a node that is killed meanwhile."""

    def __init__(self, node, seed):
        self.node, self.seed = node, seed
        self.stop = threading.Event()
        self.up = threading.Event()
        self.client = node.client("dynamodb")
        self.registers = {f"r{n}": [] for n in range(REGISTERS)}
        self.transactions = []
        self.numbers = iter(range(1, 1 << 30))
        self.lock = threading.Lock()
        self.crashed = []

    def number(self):
        with self.lock:
            return next(self.numbers)

    def ask(self, call):
        """The answer, the error that refuses, or `UNKNOWN` (`None` if it can not have reached the node), and when."""
        # Down, it is not asked again and again.
        self.up.wait(30)
        began = time.monotonic_ns()
        try:
            answer = call()
        except ClientError as error:
            answer = UNKNOWN if error.response["ResponseMetadata"]["HTTPStatusCode"] >= 500 else error
        except (EndpointConnectionError, ConnectTimeoutError):
            answer = None
        except (BotoCoreError, HTTPClientError):
            answer = UNKNOWN
        return answer, began, time.monotonic_ns()

    def register(self, rng):
        name = rng.choice(list(self.registers))
        key, now = {"id": {"S": name}}, {"n": str(self.number())}
        kind = rng.choices(["read", "write", "add", "swap", "create", "delete"], [30, 10, 25, 20, 5, 3])[0]
        argument, table = None, "registers"
        if kind == "swap":
            # Of what it was a moment ago, so that some win.
            seen, _, _ = self.ask(lambda: self.client.get_item(TableName=table, Key=key, ConsistentRead=True))
            old = int(seen["Item"]["v"]["N"]) if isinstance(seen, dict) and "Item" in seen else 0
            argument = (old, int(now["n"]))
        elif kind in ("write", "create"):
            argument = int(now["n"])
        elif kind == "add":
            argument = 1
        calls = {
            "read": lambda: self.client.get_item(TableName=table, Key=key, ConsistentRead=True),
            "write": lambda: self.client.put_item(TableName=table, Item={**key, "v": {"N": now["n"]}}),
            "add": lambda: self.client.update_item(
                TableName=table, Key=key, UpdateExpression="ADD v :one", ExpressionAttributeValues={":one": {"N": "1"}},
                ReturnValues="UPDATED_NEW"),
            "swap": lambda: self.client.update_item(
                TableName=table, Key=key, UpdateExpression="SET v = :new", ConditionExpression="v = :old",
                ExpressionAttributeValues={":old": {"N": str(argument[0])}, ":new": {"N": str(argument[1])}}),
            "create": lambda: self.client.put_item(
                TableName=table, Item={**key, "v": {"N": now["n"]}}, ConditionExpression="attribute_not_exists(id)"),
            "delete": lambda: self.client.delete_item(TableName=table, Key=key, ReturnValues="ALL_OLD"),
        }
        answer, began, ended = self.ask(calls[kind])
        if answer is None:
            return
        number = lambda item: int(item["v"]["N"]) if item else None  # noqa: E731
        if answer is UNKNOWN:
            told = UNKNOWN
        elif isinstance(answer, ClientError):
            assert answer.response["Error"]["Code"] == "ConditionalCheckFailedException", answer
            told = False
        elif kind == "read":
            told = number(answer.get("Item"))
        elif kind in ("add", "delete"):
            told = number(answer.get("Attributes"))
        else:
            told = True
        self.registers[name].append(Operation(kind, argument, told, began, ended))

    def transaction(self, rng):
        lists = rng.sample([f"l{n}" for n in range(LISTS)], rng.choice([1, 2, 2, 3]))
        keys = [{"id": {"S": name}} for name in lists]
        if rng.random() < 0.4:
            request = [{"Get": {"TableName": "lists", "Key": key}} for key in keys]
            answer, began, ended = self.ask(lambda: self.client.transact_get_items(TransactItems=request))
            if isinstance(answer, dict):
                seen = [[int(e["N"]) for e in r.get("Item", {}).get("l", {}).get("L", [])] for r in answer["Responses"]]
                self.transactions.append(Transaction(began, ended, reads=dict(zip(lists, seen))))
            return
        elements = [self.number() for _ in lists]
        request = [
            {"Update": {
                "TableName": "lists", "Key": key, "UpdateExpression": "SET l = list_append(if_not_exists(l, :none), :e)",
                "ExpressionAttributeValues": {":none": {"L": []}, ":e": {"L": [{"N": str(element)}]}}}}
            for key, element in zip(keys, elements)
        ]
        if rng.random() < 0.2:
            # Refused for its last action, so nothing of it may be seen.
            other = {"id": {"S": "nobody"}}
            request.append({"ConditionCheck": {"TableName": "lists", "Key": other, "ConditionExpression": "attribute_exists(id)"}})
        answer, began, ended = self.ask(lambda: self.client.transact_write_items(TransactItems=request))
        if answer is None:
            return
        done = UNKNOWN if answer is UNKNOWN else not isinstance(answer, ClientError)
        if done is False:
            assert answer.response["Error"]["Code"] == "TransactionCanceledException", answer
        self.transactions.append(Transaction(began, ended, list(zip(lists, elements)), done=done))

    def run(self):
        rng = random.Random(self.seed)

        def work(number, act):
            own = random.Random(f"{self.seed}-{number}")
            try:
                while not self.stop.is_set():
                    act(own)
            except BaseException as error:
                self.crashed.append(error)
                raise

        acts = [self.register] * REGISTER_CLIENTS + [self.transaction] * LIST_CLIENTS
        threads = [threading.Thread(target=work, args=(n, act)) for n, act in enumerate(acts)]
        self.up.set()
        for thread in threads:
            thread.start()
        for _ in range(CRASHES):
            time.sleep(0.5 + 1.5 * rng.random())
            self.up.clear()
            self.node.kill()
            self.node.start()
            self.up.set()
        time.sleep(1)
        self.stop.set()
        for thread in threads:
            thread.join()
        assert not self.crashed, self.crashed

    def final(self):
        lists = {}
        for n in range(LISTS):
            item = self.client.get_item(TableName="lists", Key={"id": {"S": f"l{n}"}}, ConsistentRead=True).get("Item", {})
            lists[f"l{n}"] = [int(e["N"]) for e in item.get("l", {}).get("L", [])]
        return lists


def test_what_clients_see_of_a_node_that_is_killed_has_an_order(tmp_path, shared_cache):
    seed = int(os.environ.get("HAWKER_SEED", time.time_ns() % 1_000_000))
    print(f"HAWKER_SEED={seed}")
    node = Node(tmp_path / "data", "--cache", shared_cache).start()
    try:
        for table in ("registers", "lists"):
            node.client("dynamodb").create_table(
                TableName=table, AttributeDefinitions=[{"AttributeName": "id", "AttributeType": "S"}],
                KeySchema=[{"AttributeName": "id", "KeyType": "HASH"}], BillingMode="PAY_PER_REQUEST")
        recorder = Recorder(node, seed)
        recorder.run()
        final = recorder.final()
        assert node.stop() == 0
    finally:
        if node.process.poll() is None:
            node.kill()
    counts = {name: len(history) for name, history in recorder.registers.items()}
    print(f"{counts} operations and {len(recorder.transactions)} transactions")
    assert min(counts.values()) > 20 and len(recorder.transactions) > 100, f"too little was done: {counts}"
    for name, history in recorder.registers.items():
        told = "\n".join(map(str, sorted(history, key=lambda o: o.began)))
        assert linearizable(history), f"HAWKER_SEED={seed}: no order explains what was seen of {name}:\n{told}"
    wrong = anomalies(recorder.transactions, final)
    assert not wrong, f"HAWKER_SEED={seed}:\n" + "\n".join(wrong)
