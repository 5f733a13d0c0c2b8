// The AWS SDK for JavaScript against a node: `node --test` with AWS_ENDPOINT_URL and keys in the environment.

import assert from "node:assert/strict";
import { createHash, randomBytes, randomUUID } from "node:crypto";
import { Readable } from "node:stream";
import { before, test } from "node:test";

import {
  AbortMultipartUploadCommand, CopyObjectCommand, CreateBucketCommand, CreateMultipartUploadCommand, DeleteBucketCommand,
  DeleteObjectCommand, DeleteObjectsCommand, GetObjectAttributesCommand, GetObjectCommand, GetObjectTaggingCommand,
  HeadObjectCommand, ListObjectVersionsCommand, ListObjectsV2Command, ListPartsCommand, NoSuchKey, PutBucketVersioningCommand,
  PutObjectCommand, PutObjectTaggingCommand, S3Client, UploadPartCommand, paginateListObjectsV2, waitUntilObjectExists,
} from "@aws-sdk/client-s3";
import { Upload } from "@aws-sdk/lib-storage";
import { createPresignedPost } from "@aws-sdk/s3-presigned-post";
import { getSignedUrl } from "@aws-sdk/s3-request-presigner";

const s3 = new S3Client({ forcePathStyle: true, maxAttempts: 1 });
const Bucket = `javascript-${randomUUID()}`;
const md5 = (bytes) => createHash("md5").update(bytes).digest("hex");
const content = async (Key, more = {}) => Buffer.from(await (await s3.send(new GetObjectCommand({ Bucket, Key, ...more }))).Body.transformToByteArray());
const put = (Key, Body, more = {}) => s3.send(new PutObjectCommand({ Bucket, Key, Body, ...more }));

before(() => s3.send(new CreateBucketCommand({ Bucket })));

test("an object with metadata comes back as it was put", async () => {
  const body = randomBytes(100_000);
  const { ETag } = await put("folder/ä file+name", body, { ContentType: "text/x-test", Metadata: { colour: "blue" }, CacheControl: "no-cache" });
  assert.equal(ETag, `"${md5(body)}"`);
  const head = await s3.send(new HeadObjectCommand({ Bucket, Key: "folder/ä file+name" }));
  assert.equal(head.ContentLength, body.length);
  assert.equal(head.ContentType, "text/x-test");
  assert.equal(head.CacheControl, "no-cache");
  assert.deepEqual(head.Metadata, { colour: "blue" });
  assert.ok(Math.abs(Date.now() - head.LastModified.getTime()) < 600_000);
  assert.deepEqual(await content("folder/ä file+name"), body);
  assert.deepEqual(await content("folder/ä file+name", { Range: "bytes=10-19" }), body.subarray(10, 20));
});

for (const ChecksumAlgorithm of ["CRC32", "CRC32C", "CRC64NVME", "SHA1", "SHA256"]) {
  test(`a checksum by ${ChecksumAlgorithm} is verified both ways`, async () => {
    const Key = `checksum-${ChecksumAlgorithm}`;
    const sent = await put(Key, "some bytes", { ChecksumAlgorithm });
    const got = await s3.send(new GetObjectCommand({ Bucket, Key, ChecksumMode: "ENABLED" }));
    assert.equal(got[`Checksum${ChecksumAlgorithm}`], sent[`Checksum${ChecksumAlgorithm}`]);
    assert.ok(got[`Checksum${ChecksumAlgorithm}`]);
    assert.equal(await got.Body.transformToString(), "some bytes");
    const wrong = Buffer.alloc(Buffer.from(sent[`Checksum${ChecksumAlgorithm}`], "base64").length).toString("base64");
    await assert.rejects(put(Key, "some bytes", { [`Checksum${ChecksumAlgorithm}`]: wrong }), { name: "BadDigest" });
  });
}

test("a stream of unknown length is uploaded in parts", async () => {
  const body = randomBytes(13 << 20);
  const stream = Readable.from((function* () { for (let at = 0; at < body.length; at += 100_000) yield body.subarray(at, at + 100_000); })());
  const upload = new Upload({ client: s3, params: { Bucket, Key: "parts", Body: stream, Metadata: { a: "b" } }, queueSize: 4, partSize: 5 << 20 });
  const { ETag } = await upload.done();
  assert.match(ETag, /-3"$/);
  assert.equal(md5(await content("parts")), md5(body));
  assert.deepEqual(await content("parts", { PartNumber: 2 }), body.subarray(5 << 20, 10 << 20));
  const { ObjectParts } = await s3.send(new GetObjectAttributesCommand({ Bucket, Key: "parts", ObjectAttributes: ["ObjectParts", "Checksum"] }));
  assert.equal(ObjectParts.TotalPartsCount, 3);
});

test("an upload that is given up leaves nothing", async () => {
  const { UploadId } = await s3.send(new CreateMultipartUploadCommand({ Bucket, Key: "given up" }));
  await s3.send(new UploadPartCommand({ Bucket, Key: "given up", UploadId, PartNumber: 1, Body: "x" }));
  assert.equal((await s3.send(new ListPartsCommand({ Bucket, Key: "given up", UploadId }))).Parts.length, 1);
  await s3.send(new AbortMultipartUploadCommand({ Bucket, Key: "given up", UploadId }));
  await assert.rejects(s3.send(new ListPartsCommand({ Bucket, Key: "given up", UploadId })), { name: "NoSuchUpload" });
});

test("errors have their classes", async () => {
  await assert.rejects(content("not there"), (error) => error instanceof NoSuchKey && error.$metadata.httpStatusCode === 404);
  await assert.rejects(s3.send(new HeadObjectCommand({ Bucket, Key: "not there" })), { name: "NotFound" });
  await put("guarded", "1");
  await assert.rejects(put("guarded", "2", { IfNoneMatch: "*" }), { name: "PreconditionFailed" });
  await assert.rejects(s3.send(new DeleteBucketCommand({ Bucket })), { name: "BucketNotEmpty" });
});

test("listings are paginated and rolled up", async () => {
  await Promise.all(Array.from({ length: 25 }, (_, i) => put(`list/${i % 5}/${String(i).padStart(2, "0")} &<`, "")));
  const keys = [];
  for await (const page of paginateListObjectsV2({ client: s3, pageSize: 4 }, { Bucket, Prefix: "list/" })) keys.push(...page.Contents.map((c) => c.Key));
  assert.equal(new Set(keys).size, 25);
  assert.deepEqual(keys, [...keys].sort());
  const rolled = await s3.send(new ListObjectsV2Command({ Bucket, Prefix: "list/", Delimiter: "/" }));
  assert.deepEqual(rolled.CommonPrefixes.map((p) => p.Prefix), ["list/0/", "list/1/", "list/2/", "list/3/", "list/4/"]);
  const { Deleted, Errors } = await s3.send(new DeleteObjectsCommand({ Bucket, Delete: { Objects: keys.map((Key) => ({ Key })) } }));
  assert.equal(Deleted.length, 25);
  assert.equal(Errors, undefined);
});

test("copies and tags", async () => {
  await put("original", "text", { Metadata: { a: "1" }, Tagging: "one=1&two=2" });
  await s3.send(new CopyObjectCommand({ Bucket, Key: "copy", CopySource: `${Bucket}/original`, MetadataDirective: "REPLACE", Metadata: { b: "2" } }));
  assert.deepEqual((await s3.send(new HeadObjectCommand({ Bucket, Key: "copy" }))).Metadata, { b: "2" });
  const tags = async () => (await s3.send(new GetObjectTaggingCommand({ Bucket, Key: "copy" }))).TagSet;
  assert.deepEqual(await tags(), [{ Key: "one", Value: "1" }, { Key: "two", Value: "2" }]);
  await s3.send(new PutObjectTaggingCommand({ Bucket, Key: "copy", Tagging: { TagSet: [{ Key: "x", Value: "y" }] } }));
  assert.deepEqual(await tags(), [{ Key: "x", Value: "y" }]);
});

test("URLs that are signed beforehand", async () => {
  const url = await getSignedUrl(s3, new PutObjectCommand({ Bucket, Key: "by url", ContentType: "text/plain" }), { expiresIn: 60 });
  assert.equal((await fetch(url, { method: "PUT", body: "by url", headers: { "content-type": "text/plain" } })).status, 200);
  await waitUntilObjectExists({ client: s3, maxWaitTime: 10 }, { Bucket, Key: "by url" });
  const get = await getSignedUrl(s3, new GetObjectCommand({ Bucket, Key: "by url", ResponseContentDisposition: "attachment" }), { expiresIn: 60 });
  const answer = await fetch(get);
  assert.equal(await answer.text(), "by url");
  assert.equal(answer.headers.get("content-disposition"), "attachment");
  assert.equal((await fetch(get.replace("by%20url", "guarded"))).status, 403);
});

test("forms that are signed beforehand", async () => {
  const { url, fields } = await createPresignedPost(s3, { Bucket, Key: "forms/${filename}", Conditions: [["content-length-range", 1, 100], ["starts-with", "$key", "forms/"]], Fields: { success_action_status: "201" }, Expires: 60 });
  const send = (bytes) => {
    const form = new FormData();
    Object.entries(fields).forEach(([name, value]) => form.append(name, value));
    form.append("file", new Blob([bytes]), "photo.jpg");
    return fetch(url, { method: "POST", body: form });
  };
  assert.equal((await send("a photo")).status, 201);
  assert.equal((await content("forms/photo.jpg")).toString(), "a photo");
  const refused = await send("x".repeat(101));
  assert.equal(refused.status, 400);
  assert.match(await refused.text(), /EntityTooLarge/);
});

test("versions", async () => {
  const Bucket = `javascript-${randomUUID()}`;
  await s3.send(new CreateBucketCommand({ Bucket }));
  await s3.send(new PutBucketVersioningCommand({ Bucket, VersioningConfiguration: { Status: "Enabled" } }));
  const Key = "key";
  const first = await s3.send(new PutObjectCommand({ Bucket, Key, Body: "first" }));
  await s3.send(new PutObjectCommand({ Bucket, Key, Body: "second" }));
  const { DeleteMarker } = await s3.send(new DeleteObjectCommand({ Bucket, Key }));
  assert.equal(DeleteMarker, true);
  const old = await s3.send(new GetObjectCommand({ Bucket, Key, VersionId: first.VersionId }));
  assert.equal(await old.Body.transformToString(), "first");
  const { Versions, DeleteMarkers } = await s3.send(new ListObjectVersionsCommand({ Bucket }));
  assert.deepEqual([Versions.length, DeleteMarkers.length], [2, 1]);
});
