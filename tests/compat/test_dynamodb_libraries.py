"""Tables by the libraries that people use in place of a bare client: the document client of the AWS SDK for
JavaScript, ElectroDB, DynamoDB-Toolbox, PynamoDB."""

import datetime
import pathlib
import shutil
import subprocess

import pytest
from conftest import REGION, kept, npm_ci, pinned, unique
from pynamodb.attributes import (
    BinaryAttribute, BooleanAttribute, JSONAttribute, ListAttribute, MapAttribute, NumberAttribute, NumberSetAttribute,
    TTLAttribute, UnicodeAttribute, UnicodeSetAttribute, UTCDateTimeAttribute, VersionAttribute,
)  # fmt: skip
from pynamodb.connection import Connection
from pynamodb.exceptions import DoesNotExist, PutError, TransactWriteError, UpdateError
from pynamodb.indexes import AllProjection, GlobalSecondaryIndex, KeysOnlyProjection, LocalSecondaryIndex
from pynamodb.models import Model
from pynamodb.transactions import TransactGet, TransactWrite

pytestmark = pytest.mark.local
HERE = pathlib.Path(__file__).parent / "tables"


@pytest.fixture(scope="session")
def modules():
    """The packages that the lock names, installed once."""
    return kept(pinned("tables", (HERE / "package-lock.json").read_text()), npm_ci(HERE))


@pytest.mark.parametrize("program", ["document_client", "electrodb", "toolbox"])
def test_javascript(node, modules, program):
    # Packages are looked for beside the program.
    copy = modules / f"{unique(program)}.mjs"
    shutil.copy(HERE / f"{program}.mjs", copy)
    try:
        done = subprocess.run(
            ["node", copy, unique("table")], env={**node.env(), "NODE_NO_WARNINGS": "1"}, capture_output=True, text=True, timeout=120)
    finally:
        copy.unlink()
    assert done.returncode == 0 and done.stdout == "done\n", f"{done.stdout}\n{done.stderr}"


def meta(node, **more):
    values = {
        "table_name": unique("table"), "host": node.endpoint, "region": REGION, "aws_access_key_id": node.access_key_id,
        "aws_secret_access_key": node.secret_access_key, "billing_mode": "PAY_PER_REQUEST", "max_retry_attempts": 0, **more,
    }
    return type("Meta", (), values)


@pytest.fixture
def Thread(node):
    class ViewIndex(GlobalSecondaryIndex):
        class Meta:
            index_name = "views"
            projection = AllProjection()

        view = NumberAttribute(default=0, hash_key=True)

    class PostedIndex(LocalSecondaryIndex):
        class Meta:
            index_name = "posted"
            projection = KeysOnlyProjection()

        forum = UnicodeAttribute(hash_key=True)
        posted_at = UTCDateTimeAttribute(range_key=True)

    class Author(MapAttribute):
        name = UnicodeAttribute()
        age = NumberAttribute(null=True)

    class Thread(Model):
        Meta = meta(node)
        forum = UnicodeAttribute(hash_key=True)
        subject = UnicodeAttribute(range_key=True)
        view = NumberAttribute(default=0)
        view_index = ViewIndex()
        posted_at = UTCDateTimeAttribute(default=lambda: datetime.datetime(2026, 11, 1, tzinfo=datetime.timezone.utc))
        posted_index = PostedIndex()
        author = Author(null=True)
        tags = UnicodeSetAttribute(null=True)
        scores = NumberSetAttribute(null=True)
        replies = ListAttribute(null=True)
        extra = JSONAttribute(null=True)
        picture = BinaryAttribute(null=True, legacy_encoding=False)
        locked = BooleanAttribute(default=False)
        expires = TTLAttribute(null=True)
        version = VersionAttribute()

    Thread.create_table(wait=True)
    assert Thread.exists()
    yield Thread
    Thread.delete_table()


def test_pynamodb_models(Thread):
    thread = Thread("dogs", "a walk", tags={"park", "sun"}, scores={1, 2.5}, replies=["yes", 3, {"a": None}], extra={"k": [1, None]},
                    picture=b"\x00\xff", author={"name": "ada", "age": 36}, expires=datetime.timedelta(days=1))
    thread.save()
    read = Thread.get("dogs", "a walk", consistent_read=True)
    assert (read.tags, read.scores, read.picture, read.extra) == ({"park", "sun"}, {1, 2.5}, b"\x00\xff", {"k": [1, None]})
    assert (read.author.name, read.author.age, read.posted_at.year, read.version) == ("ada", 36, 2026, 1)
    assert [read.replies[0], read.replies[1]] == ["yes", 3]
    with pytest.raises(DoesNotExist):
        Thread.get("dogs", "no walk")

    # Of two that have read the same version, the second is refused.
    stale = Thread.get("dogs", "a walk")
    read.update(actions=[
        Thread.view.set(Thread.view + 10), Thread.tags.add({"rain"}), Thread.replies.set(Thread.replies.append(["late"])),
        Thread.author.age.set(37), Thread.scores.delete({2.5}), Thread.extra.remove(),
    ], condition=(Thread.locked == False) & Thread.author.name.startswith("a"))  # noqa: E712
    assert (read.view, read.tags, len(read.replies), read.author.age, read.scores) == (10, {"park", "sun", "rain"}, 4, 37, {1})
    with pytest.raises(PutError) as refused:
        stale.save()
    assert refused.value.cause_response_code == "ConditionalCheckFailedException"
    with pytest.raises(UpdateError):
        read.update(actions=[Thread.view.set(0)], condition=Thread.view.between(50, 60) | Thread.subject.contains("run"))
    stale.refresh()
    assert stale.view == 10
    stale.delete(condition=Thread.view.exists())
    assert Thread.count("dogs") == 0


def test_pynamodb_batches_queries_and_indexes(Thread):
    with Thread.batch_write() as batch:
        for n in range(60):
            batch.save(Thread("cats", f"t{n:02}", view=n % 3, posted_at=datetime.datetime(2026, 1, 1 + n % 28, tzinfo=datetime.timezone.utc)))
    assert Thread.count("cats") == 60
    found = [t.subject for t in Thread.query("cats", Thread.subject.between("t10", "t30"), filter_condition=Thread.view == 1, page_size=4)]
    assert found == [f"t{n:02}" for n in range(10, 31) if n % 3 == 1]
    last = Thread.query("cats", limit=5, scan_index_forward=False)
    assert [t.subject for t in last] == ["t59", "t58", "t57", "t56", "t55"]
    assert last.last_evaluated_key["subject"] == {"S": "t55"}
    assert len(list(Thread.view_index.query(2))) == 20
    assert Thread.view_index.count(0) == 20
    posted = list(Thread.posted_index.query("cats", Thread.posted_at < datetime.datetime(2026, 1, 3, tzinfo=datetime.timezone.utc)))
    assert len(posted) == 6
    assert len(list(Thread.scan(Thread.subject.startswith("t1")))) == 10
    assert len(list(Thread.scan(segment=0, total_segments=1, limit=7))) == 7
    keys = [("cats", f"t{n:02}") for n in range(0, 60, 2)]
    assert {t.subject for t in Thread.batch_get(keys, attributes_to_get=["forum", "subject", "version"])} == {s for _, s in keys}
    only = next(iter(Thread.query("cats", Thread.subject == "t01", attributes_to_get=["subject"])))
    assert (only.subject, only.author, only.tags) == ("t01", None, None)


def test_pynamodb_transactions(node):
    class Statement(Model):
        Meta = meta(node)
        user = UnicodeAttribute(hash_key=True)
        balance = NumberAttribute(default=0)

    Statement.create_table(wait=True)
    Statement("ada", balance=100).save()
    Statement("bo", balance=0).save()
    connection = Connection(host=node.endpoint, region=REGION, max_retry_attempts=0)
    connection.session.set_credentials(node.access_key_id, node.secret_access_key)

    def pay(amount):
        with TransactWrite(connection=connection, client_request_token=unique("pay")[:36]) as transaction:
            transaction.update(Statement("ada"), actions=[Statement.balance.add(-amount)], condition=Statement.balance >= amount)
            transaction.update(Statement("bo"), actions=[Statement.balance.add(amount)])
            transaction.condition_check(Statement, "nobody", condition=Statement.user.does_not_exist())

    pay(60)
    with pytest.raises(TransactWriteError) as refused:
        pay(60)
    # It sends the condition check first.
    assert [reason and reason.code for reason in refused.value.cancellation_reasons] == [None, "ConditionalCheckFailed", None]
    with TransactGet(connection=connection) as transaction:
        ada, bo = transaction.get(Statement, "ada"), transaction.get(Statement, "bo")
    assert (ada.get().balance, bo.get().balance) == (40, 60)
