// DynamoDB-Toolbox: a table, its entities, and their actions, as its documentation introduces them.

import assert from 'node:assert/strict';
import { CreateTableCommand, DynamoDBClient, waitUntilTableExists } from '@aws-sdk/client-dynamodb';
import { DynamoDBDocumentClient } from '@aws-sdk/lib-dynamodb';
import { $add, $append, $sum, UpdateItemCommand } from 'dynamodb-toolbox/entity/actions/update';
import { BatchGetRequest } from 'dynamodb-toolbox/entity/actions/batchGet';
import { BatchPutRequest } from 'dynamodb-toolbox/entity/actions/batchPut';
import { ConditionCheck } from 'dynamodb-toolbox/entity/actions/transactCheck';
import { DeleteItemCommand } from 'dynamodb-toolbox/entity/actions/delete';
import { Entity } from 'dynamodb-toolbox/entity';
import { GetItemCommand } from 'dynamodb-toolbox/entity/actions/get';
import { GetTransaction, execute as executeTransactGet } from 'dynamodb-toolbox/entity/actions/transactGet';
import { PutItemCommand } from 'dynamodb-toolbox/entity/actions/put';
import { PutTransaction } from 'dynamodb-toolbox/entity/actions/transactPut';
import { QueryCommand } from 'dynamodb-toolbox/table/actions/query';
import { ScanCommand } from 'dynamodb-toolbox/table/actions/scan';
import { Table } from 'dynamodb-toolbox/table';
import { BatchGetCommand, execute as executeBatchGet } from 'dynamodb-toolbox/table/actions/batchGet';
import { BatchWriteCommand, execute as executeBatchWrite } from 'dynamodb-toolbox/table/actions/batchWrite';
import { UpdateTransaction } from 'dynamodb-toolbox/entity/actions/transactUpdate';
import { execute as executeTransactWrite } from 'dynamodb-toolbox/entity/actions/transactWrite';
import { anyOf, binary, boolean, item, list, map, number, record, set, string } from 'dynamodb-toolbox/schema';

const client = new DynamoDBClient({ maxAttempts: 1 });
const name = process.argv[2];
await client.send(new CreateTableCommand({
  TableName: name,
  BillingMode: 'PAY_PER_REQUEST',
  AttributeDefinitions: [['pk', 'S'], ['sk', 'S'], ['type', 'S'], ['level', 'N']].map(([AttributeName, AttributeType]) => ({ AttributeName, AttributeType })),
  KeySchema: [{ AttributeName: 'pk', KeyType: 'HASH' }, { AttributeName: 'sk', KeyType: 'RANGE' }],
  GlobalSecondaryIndexes: [{
    IndexName: 'by-level',
    KeySchema: [{ AttributeName: 'type', KeyType: 'HASH' }, { AttributeName: 'level', KeyType: 'RANGE' }],
    Projection: { ProjectionType: 'ALL' },
  }],
}));
await waitUntilTableExists({ client, maxWaitTime: 30 }, { TableName: name });

const table = new Table({
  name,
  documentClient: DynamoDBDocumentClient.from(client),
  partitionKey: { name: 'pk', type: 'string' },
  sortKey: { name: 'sk', type: 'string' },
  indexes: { 'by-level': { type: 'global', partitionKey: { name: 'type', type: 'string' }, sortKey: { name: 'level', type: 'number' } } },
});
const Pokemon = new Entity({
  name: 'Pokemon',
  table,
  schema: item({
    trainer: string().key().savedAs('pk').transform({ encode: (text) => `TRAINER#${text}`, decode: (text) => text.slice(8) }),
    id: string().key().savedAs('sk'),
    type: string().enum('fire', 'water', 'grass').default('fire'),
    level: number(),
    shiny: boolean().default(false),
    moves: list(string()).default([]),
    stats: map({ attack: number(), defence: number().optional() }),
    tags: set(string()).optional(),
    picture: binary().optional(),
    notes: record(string(), anyOf(string(), number())).optional(),
  }),
});

const make = (trainer, id, more = {}) => ({ trainer, id, level: 1, stats: { attack: 10 }, ...more });
await Pokemon.build(PutItemCommand).item(make('ash', 'p1', {
  tags: new Set(['first', 'friend']), picture: Uint8Array.from([1, 2, 3]), notes: { seen: 3, where: 'Pallet' },
})).send();
const { Item: first } = await Pokemon.build(GetItemCommand).key({ trainer: 'ash', id: 'p1' }).options({ consistent: true }).send();
assert.deepEqual([first.trainer, first.type, first.shiny, first.stats, first.tags, first.notes],
  ['ash', 'fire', false, { attack: 10 }, new Set(['first', 'friend']), { seen: 3, where: 'Pallet' }]);
await assert.rejects(
  Pokemon.build(PutItemCommand).item(make('ash', 'p1')).options({ condition: { attr: 'id', exists: false } }).send(),
  { name: 'ConditionalCheckFailedException' },
);

const { Attributes: after } = await Pokemon.build(UpdateItemCommand).item({
  trainer: 'ash', id: 'p1', level: $add(4), moves: $append(['ember']), stats: { attack: $sum(10, 5) }, tags: $add(new Set(['old'])),
}).options({ returnValues: 'ALL_NEW', condition: { attr: 'level', lt: 100 } }).send();
assert.deepEqual([after.level, after.moves, after.stats.attack, after.tags.size], [5, ['ember'], 15, 3]);

const many = Array.from({ length: 20 }, (_, n) => make('misty', `w${String(n).padStart(2, '0')}`, { type: 'water', level: n }));
await executeBatchWrite(table.build(BatchWriteCommand).requests(...many.map((one) => Pokemon.build(BatchPutRequest).item(one))));
const got = await executeBatchGet(table.build(BatchGetCommand).requests(
  ...many.slice(0, 5).map(({ trainer, id }) => Pokemon.build(BatchGetRequest).key({ trainer, id }))));
assert.deepEqual(got.Responses[0].map((one) => one.level), [0, 1, 2, 3, 4]);

const strong = await table.build(QueryCommand).entities(Pokemon)
  .query({ index: 'by-level', partition: 'water', range: { gte: 15 } })
  .options({ reverse: true, filters: { Pokemon: { attr: 'stats.attack', gte: 10 } }, maxPages: Infinity, limit: 2 }).send();
assert.deepEqual(strong.Items.map((one) => one.level), [19, 18, 17, 16, 15]);
const page = await table.build(QueryCommand).entities(Pokemon)
  .query({ partition: 'TRAINER#misty', range: { between: ['w03', 'w09'] } }).options({ limit: 3, attributes: ['id'] }).send();
assert.deepEqual(page.Items.map((one) => one.id), ['w03', 'w04', 'w05']);
const next = await table.build(QueryCommand).entities(Pokemon)
  .query({ partition: 'TRAINER#misty', range: { between: ['w03', 'w09'] } }).options({ exclusiveStartKey: page.LastEvaluatedKey }).send();
assert.deepEqual(next.Items.map((one) => one.id), ['w06', 'w07', 'w08', 'w09']);
const scanned = await table.build(ScanCommand).entities(Pokemon).options({ segment: 0, totalSegments: 1, maxPages: Infinity, limit: 6 }).send();
assert.equal(scanned.Items.length, 21);

await executeTransactWrite(
  Pokemon.build(PutTransaction).item(make('brock', 'r1', { type: 'grass' })),
  Pokemon.build(UpdateTransaction).item({ trainer: 'ash', id: 'p1', level: $add(1) }),
  Pokemon.build(ConditionCheck).key({ trainer: 'misty', id: 'w00' }).condition({ attr: 'level', eq: 0 }),
);
await assert.rejects(
  executeTransactWrite(
    Pokemon.build(PutTransaction).item(make('brock', 'r2')),
    Pokemon.build(ConditionCheck).key({ trainer: 'misty', id: 'w00' }).condition({ attr: 'level', gt: 0 }),
  ),
  { name: 'TransactionCanceledException' },
);
const read = await executeTransactGet(
  Pokemon.build(GetTransaction).key({ trainer: 'ash', id: 'p1' }), Pokemon.build(GetTransaction).key({ trainer: 'brock', id: 'r2' }));
assert.deepEqual(read.Responses.map((one) => one.Item?.level), [6, undefined]);

const { Attributes: old } = await Pokemon.build(DeleteItemCommand).key({ trainer: 'brock', id: 'r1' }).options({ returnValues: 'ALL_OLD' }).send();
assert.equal(old.type, 'grass');
console.log('done');
