// ElectroDB: entities that share a table and its index, in a service, as its documentation introduces them.

import assert from 'node:assert/strict';
import { CreateTableCommand, DynamoDBClient, waitUntilTableExists } from '@aws-sdk/client-dynamodb';
import { Entity, Service } from 'electrodb';

const client = new DynamoDBClient({ maxAttempts: 1 });
const table = process.argv[2];
const keys = [['pk', 'sk'], ['gsi1pk', 'gsi1sk'], ['gsi2pk', 'gsi2sk']];
const schema = ([hash, range]) => [{ AttributeName: hash, KeyType: 'HASH' }, { AttributeName: range, KeyType: 'RANGE' }];
await client.send(new CreateTableCommand({
  TableName: table,
  BillingMode: 'PAY_PER_REQUEST',
  AttributeDefinitions: keys.flat().map((AttributeName) => ({ AttributeName, AttributeType: 'S' })),
  KeySchema: schema(keys[0]),
  GlobalSecondaryIndexes: keys.slice(1).map((pair, at) => ({
    IndexName: `gsi${at + 1}pk-gsi${at + 1}sk-index`, KeySchema: schema(pair), Projection: { ProjectionType: 'ALL' },
  })),
}));
await waitUntilTableExists({ client, maxWaitTime: 30 }, { TableName: table });

const task = new Entity({
  model: { entity: 'task', version: '1', service: 'office' },
  attributes: {
    team: { type: 'string', required: true },
    task: { type: 'string', required: true },
    project: { type: 'string', required: true },
    employee: { type: 'string', required: true },
    title: { type: 'string', required: true },
    status: { type: ['open', 'in-progress', 'closed'], default: 'open' },
    points: { type: 'number', default: 0 },
    tags: { type: 'set', items: 'string' },
    comments: { type: 'list', items: { type: 'map', properties: { user: { type: 'string' }, body: { type: 'string' } } } },
    createdAt: { type: 'number', default: () => Date.now(), readOnly: true },
    updatedAt: { type: 'number', watch: '*', set: () => Date.now() },
  },
  indexes: {
    projects: { pk: { field: 'pk', composite: ['team'] }, sk: { field: 'sk', composite: ['project', 'task'] } },
    assigned: {
      collection: 'assignments', index: 'gsi1pk-gsi1sk-index',
      pk: { field: 'gsi1pk', composite: ['employee'] }, sk: { field: 'gsi1sk', composite: ['status'] },
    },
    backlog: {
      index: 'gsi2pk-gsi2sk-index',
      pk: { field: 'gsi2pk', composite: ['project'] }, sk: { field: 'gsi2sk', composite: ['team', 'status'] },
    },
  },
}, { client, table });

const employee = new Entity({
  model: { entity: 'employee', version: '1', service: 'office' },
  attributes: {
    employee: { type: 'string', required: true },
    firstName: { type: 'string', required: true },
    office: { type: 'string', required: true },
    salary: { type: 'number' },
  },
  indexes: {
    employee: { pk: { field: 'pk', composite: ['employee'] }, sk: { field: 'sk', composite: [] } },
    assigned: {
      collection: 'assignments', index: 'gsi1pk-gsi1sk-index',
      pk: { field: 'gsi1pk', composite: ['employee'] }, sk: { field: 'gsi1sk', composite: [] },
    },
  },
}, { client, table });
const office = new Service({ task, employee });

await employee.put({ employee: 'ada', firstName: 'Ada', office: 'north', salary: 100 }).go();
const tasks = Array.from({ length: 60 }, (_, n) => ({
  team: 'core', task: `t-${String(n).padStart(3, '0')}`, project: n % 2 ? 'backend' : 'frontend', employee: n % 3 ? 'ada' : 'bo',
  title: `task ${n}`, points: n, tags: ['new'], comments: [],
}));
const put = await task.put(tasks).go();
assert.deepEqual(put.unprocessed, []);

// `create` refuses what is there, `patch` what is not.
await assert.rejects(task.create(tasks[0]).go(), /conditional request failed/);
await assert.rejects(task.patch({ team: 'core', task: 'none', project: 'backend' }).set({ status: 'closed' }).go(), /conditional request failed/);
const id = { team: 'core', task: 't-001', project: 'backend' };
const patched = await task.patch(id)
  .set({ status: 'in-progress', employee: 'ada' })
  .add({ points: 5, tags: ['urgent'] })
  .append({ comments: [{ user: 'bo', body: 'half done' }] })
  .where(({ status }, { eq }) => eq(status, 'open'))
  .go({ response: 'all_new' });
assert.equal(patched.data.points, 6);
assert.deepEqual([patched.data.tags.sort(), patched.data.comments.length, patched.data.status], [['new', 'urgent'], 1, 'in-progress']);
assert.equal((await task.get(id).go()).data.status, 'in-progress');
const several = await task.get(tasks.slice(0, 30).map(({ team, task, project }) => ({ team, task, project }))).go();
assert.equal(several.data.length, 30);

// Queries by every index, with filters, pages and collections.
const backend = await task.query.projects({ team: 'core', project: 'backend' }).go({ pages: 'all' });
assert.equal(backend.data.length, 30);
const some = await task.query.projects({ team: 'core' })
  .between({ project: 'backend', task: 't-010' }, { project: 'backend', task: 't-020' })
  .where(({ points, title }, { gt, contains }) => `${gt(points, 12)} AND ${contains(title, 'task')}`)
  .go();
assert.deepEqual(some.data.map((one) => one.points), [13, 15, 17, 19]);
let cursor = null;
const seen = [];
do {
  const page = await task.query.backlog({ project: 'frontend', team: 'core' }).go({ cursor, limit: 7 });
  seen.push(...page.data.map((one) => one.task));
  cursor = page.cursor;
} while (cursor);
assert.equal(new Set(seen).size, 30);
const descending = await task.query.assigned({ employee: 'ada' }).begins({ status: 'in' }).go({ order: 'desc' });
assert.deepEqual(descending.data.map((one) => one.task), ['t-001']);
const { data: mine } = await office.collections.assignments({ employee: 'ada' }).go({ pages: 'all' });
assert.deepEqual([mine.employee.length, mine.task.length], [1, 40]);
assert.equal((await task.scan.where(({ points }, { gte }) => gte(points, 50)).go({ pages: 'all' })).data.length, 10);
assert.equal((await task.find({ employee: 'bo', status: 'open' }).go({ pages: 'all' })).data.length, 20);

// Transactions, and what stops them.
const moved = await office.transaction.write(({ task, employee }) => [
  task.patch(id).set({ status: 'closed' }).commit(),
  employee.patch({ employee: 'ada' }).add({ salary: 10 }).commit(),
  task.create({ ...tasks[0], task: 't-100' }).commit(),
]).go();
assert.equal(moved.canceled, false);
const stopped = await office.transaction.write(({ task, employee }) => [
  employee.patch({ employee: 'ada' }).add({ salary: 1000 }).commit(),
  task.create({ ...tasks[0], task: 't-100' }).commit({ response: 'all_old' }),
]).go();
assert.equal(stopped.canceled, true);
assert.deepEqual(stopped.data.map((one) => one.code), ['None', 'ConditionalCheckFailed']);
const read = await office.transaction.get(({ task, employee }) => [task.get(id).commit(), employee.get({ employee: 'ada' }).commit()]).go();
assert.deepEqual([read.data[0].item.status, read.data[1].item.salary], ['closed', 110]);

const upserted = await task.upsert({ ...tasks[1], title: 'again' }).go({ response: 'all_new' });
assert.equal(upserted.data.title, 'again');
await task.remove(id).go();
await assert.rejects(task.remove(id).go(), /conditional request failed/);
await task.delete(tasks.map(({ team, task, project }) => ({ team, task, project }))).go();
assert.equal((await task.query.projects({ team: 'core' }).go({ pages: 'all' })).data.length, 1);
console.log('done');
