// The AWS SDK for JavaScript's document client: everything it has a command for, and how it maps values.

import assert from 'node:assert/strict';
import { CreateTableCommand, DynamoDBClient, waitUntilTableExists } from '@aws-sdk/client-dynamodb';
import {
  BatchExecuteStatementCommand, BatchGetCommand, BatchWriteCommand, DeleteCommand, DynamoDBDocumentClient, ExecuteStatementCommand,
  ExecuteTransactionCommand, GetCommand, NumberValue, paginateQuery, paginateScan, PutCommand, QueryCommand, ScanCommand,
  TransactGetCommand, TransactWriteCommand, UpdateCommand,
} from '@aws-sdk/lib-dynamodb';

const plain = new DynamoDBClient({ maxAttempts: 1 });
const client = DynamoDBDocumentClient.from(plain, { marshallOptions: { removeUndefinedValues: true, convertClassInstanceToMap: true } });
const TableName = process.argv[2];

await plain.send(new CreateTableCommand({
  TableName,
  BillingMode: 'PAY_PER_REQUEST',
  AttributeDefinitions: ['species', 'name', 'colour'].map((AttributeName) => ({ AttributeName, AttributeType: 'S' })),
  KeySchema: [{ AttributeName: 'species', KeyType: 'HASH' }, { AttributeName: 'name', KeyType: 'RANGE' }],
  GlobalSecondaryIndexes: [{
    IndexName: 'by-colour',
    KeySchema: [{ AttributeName: 'colour', KeyType: 'HASH' }, { AttributeName: 'name', KeyType: 'RANGE' }],
    Projection: { ProjectionType: 'ALL' },
  }],
}));
await waitUntilTableExists({ client: plain, maxWaitTime: 30 }, { TableName });

// Values of every kind, there and back.
class Nest { twigs = 3; left = undefined; }
const eagle = {
  species: 'eagle', name: 'Ada', colour: 'brown', wings: 2, span: 2.25, wild: true, owner: null, note: '', gone: undefined,
  rings: [1, 'two', [3], { four: 4 }], nest: new Nest(), picture: Uint8Array.from([0, 1, 254, 255]),
  nicknames: new Set(['A', 'B']), counts: new Set([1, 2.5]), pictures: new Set([Uint8Array.from([1])]),
  huge: NumberValue.from('12345678901234567890123456789012345678'), big: 9007199254740993n,
};
await client.send(new PutCommand({ TableName, Item: eagle }));
const exact = DynamoDBDocumentClient.from(new DynamoDBClient({ maxAttempts: 1 }), { unmarshallOptions: { wrapNumbers: (text) => text } });
const { Item: texts } = await exact.send(new GetCommand({ TableName, Key: { species: 'eagle', name: 'Ada' }, ConsistentRead: true }));
assert.equal(texts.huge, '12345678901234567890123456789012345678');
assert.equal(texts.big, '9007199254740993');
const { Item: read } = await client.send(new GetCommand({
  TableName, Key: { species: 'eagle', name: 'Ada' },
  ProjectionExpression: '#n, wings, span, wild, #o, note, rings, nest, picture, nicknames, counts, pictures',
  ExpressionAttributeNames: { '#n': 'name', '#o': 'owner' },
}));
const { species, colour, huge, big, gone, nest, ...rest } = eagle;
assert.deepEqual(read, { ...rest, nest: { twigs: 3 } });
assert.equal((await client.send(new GetCommand({ TableName, Key: { species: 'dodo', name: 'Bo' } }))).Item, undefined);

// Updates, and what they answer with.
const updated = await client.send(new UpdateCommand({
  TableName, Key: { species: 'eagle', name: 'Ada' },
  UpdateExpression: 'SET wings = wings + :one, rings = list_append(rings, :ring), nest.#t = :twigs REMOVE note ADD nicknames :c DELETE counts :two',
  ConditionExpression: 'wings < :ten AND begins_with(colour, :b)',
  ExpressionAttributeNames: { '#t': 'twigs' },
  ExpressionAttributeValues: {
    ':one': 1, ':ten': 10, ':b': 'br', ':ring': [5], ':twigs': 4, ':c': new Set(['C']), ':two': new Set([2.5]),
  },
  ReturnValues: 'ALL_NEW',
}));
assert.deepEqual([updated.Attributes.wings, updated.Attributes.rings.length, updated.Attributes.nest.twigs], [3, 5, 4]);
assert.deepEqual(updated.Attributes.nicknames, new Set(['A', 'B', 'C']));
assert.deepEqual(updated.Attributes.counts, new Set([1]));
assert.equal('note' in updated.Attributes, false);
await assert.rejects(
  client.send(new PutCommand({
    TableName, Item: { species: 'eagle', name: 'Ada' }, ConditionExpression: 'attribute_not_exists(species)',
    ReturnValuesOnConditionCheckFailure: 'ALL_OLD',
  })),
  (error) => error.name === 'ConditionalCheckFailedException' && error.$metadata.httpStatusCode === 400 && error.Item.wings !== undefined,
);

// Batches.
const geese = Array.from({ length: 25 }, (_, n) => ({ species: 'goose', name: `g${String(n).padStart(2, '0')}`, colour: n % 2 ? 'white' : 'grey', n }));
const written = await client.send(new BatchWriteCommand({ RequestItems: { [TableName]: geese.map((Item) => ({ PutRequest: { Item } })) } }));
assert.deepEqual(written.UnprocessedItems, {});
const got = await client.send(new BatchGetCommand({
  RequestItems: { [TableName]: { Keys: geese.slice(0, 10).map(({ species, name }) => ({ species, name })), ProjectionExpression: 'n' } },
}));
assert.deepEqual(got.Responses[TableName].map((item) => item.n).sort((a, b) => a - b), [0, 1, 2, 3, 4, 5, 6, 7, 8, 9]);
await client.send(new BatchWriteCommand({ RequestItems: { [TableName]: [{ DeleteRequest: { Key: { species: 'goose', name: 'g24' } } }] } }));

// Queries and scans, with the SDK's own pages.
const query = {
  TableName, KeyConditionExpression: 'species = :s AND #n BETWEEN :from AND :to', FilterExpression: 'n <> :not',
  ExpressionAttributeNames: { '#n': 'name' }, ExpressionAttributeValues: { ':s': 'goose', ':from': 'g05', ':to': 'g20', ':not': 7 },
};
const found = [];
let pages = 0;
for await (const page of paginateQuery({ client, pageSize: 5 }, query)) {
  found.push(...page.Items.map((item) => item.n));
  pages += 1;
}
assert.deepEqual(found, [5, 6, 8, 9, 10, 11, 12, 13, 14, 15, 16, 17, 18, 19, 20]);
assert.equal(pages, 4);
const white = await client.send(new QueryCommand({
  TableName, IndexName: 'by-colour', KeyConditionExpression: 'colour = :c', ExpressionAttributeValues: { ':c': 'white' },
  ScanIndexForward: false, Limit: 3,
}));
assert.deepEqual(white.Items.map((item) => item.name), ['g23', 'g21', 'g19']);
assert.deepEqual(white.LastEvaluatedKey, { species: 'goose', name: 'g19', colour: 'white' });
const counted = await client.send(new ScanCommand({ TableName, Select: 'COUNT' }));
assert.equal(counted.Count, 25);
let scanned = 0;
for (let Segment = 0; Segment < 4; Segment += 1) {
  for await (const page of paginateScan({ client }, { TableName, Segment, TotalSegments: 4, Limit: 3 })) scanned += page.Items.length;
}
assert.equal(scanned, 25);

// Transactions.
await client.send(new TransactWriteCommand({
  ClientRequestToken: 'once',
  TransactItems: [
    { Put: { TableName, Item: { species: 'owl', name: 'Otto', mice: 0 } } },
    { Update: { TableName, Key: { species: 'eagle', name: 'Ada' }, UpdateExpression: 'SET wings = :w', ExpressionAttributeValues: { ':w': 2 } } },
    { Delete: { TableName, Key: { species: 'goose', name: 'g23' } } },
    { ConditionCheck: { TableName, Key: { species: 'dodo', name: 'Bo' }, ConditionExpression: 'attribute_not_exists(species)' } },
  ],
}));
const both = await client.send(new TransactGetCommand({
  TransactItems: [{ species: 'owl', name: 'Otto' }, { species: 'dodo', name: 'Bo' }].map((Key) => ({ Get: { TableName, Key } })),
}));
assert.deepEqual(both.Responses, [{ Item: { species: 'owl', name: 'Otto', mice: 0 } }, {}]);
await assert.rejects(
  client.send(new TransactWriteCommand({
    TransactItems: [
      { Put: { TableName, Item: { species: 'owl', name: 'Oda' } } },
      {
        Update: {
          TableName, Key: { species: 'owl', name: 'Otto' }, UpdateExpression: 'SET mice = :m', ConditionExpression: 'mice > :m',
          ExpressionAttributeValues: { ':m': 5 }, ReturnValuesOnConditionCheckFailure: 'ALL_OLD',
        },
      },
    ],
  })),
  (error) => {
    assert.equal(error.name, 'TransactionCanceledException');
    assert.deepEqual(error.CancellationReasons.map((reason) => reason.Code), ['None', 'ConditionalCheckFailed']);
    assert.deepEqual(error.CancellationReasons[1].Item.mice, { N: '0' });
    return true;
  },
);

// PartiQL.
await client.send(new ExecuteStatementCommand({ Statement: `INSERT INTO "${TableName}" VALUE {'species': ?, 'name': ?, 'tags': ?}`, Parameters: ['jay', 'Jo', ['a', 1]] }));
const jays = await client.send(new ExecuteStatementCommand({ Statement: `SELECT * FROM "${TableName}" WHERE species = ?`, Parameters: ['jay'] }));
assert.deepEqual(jays.Items, [{ species: 'jay', name: 'Jo', tags: ['a', 1] }]);
const batch = await client.send(new BatchExecuteStatementCommand({
  Statements: ['owl', 'dodo'].map((species) => ({ Statement: `SELECT mice FROM "${TableName}" WHERE species = ? AND name = ?`, Parameters: [species, 'Otto'] })),
}));
assert.deepEqual(batch.Responses.map((response) => response.Item), [{ mice: 0 }, undefined]);
await client.send(new ExecuteTransactionCommand({
  TransactStatements: [{ Statement: `UPDATE "${TableName}" SET mice = mice + ? WHERE species = ? AND name = ?`, Parameters: [2, 'owl', 'Otto'] }],
}));

const removed = await client.send(new DeleteCommand({ TableName, Key: { species: 'owl', name: 'Otto' }, ReturnValues: 'ALL_OLD' }));
assert.equal(removed.Attributes.mice, 2);
console.log('done');
