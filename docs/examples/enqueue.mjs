#!/usr/bin/env node
// Enqueues a job for the imgus worker and waits for its end, without Go. docs/wire-format.md says what is done here.
//
//     node enqueue.mjs REDIS_URL QUEUE JOB.json [KEY_FILE]
//
// KEY_FILE is a key to seal the job with; its name is the key's id.

import { createCipheriv, randomBytes } from "node:crypto";
import { readFile, realpath } from "node:fs/promises";
import { basename } from "node:path";
import { pathToFileURL } from "node:url";

import { createClient } from "redis";

const MAX_JOB = 64 * 1024;

// Nothing happens if there is a task of this id already.
const ENQUEUE = `
if redis.call("EXISTS", KEYS[1]) == 1 then return 0 end
redis.call("HSET", KEYS[1], "msg", ARGV[1], "state", "pending", "pending_since", ARGV[3])
redis.call("LPUSH", KEYS[2], ARGV[2])
return 1
`;

// Encrypts a job (a Buffer) for its queue and id. A nonce is never used twice: only tests give one.
export function seal(job, queue, id, keyId, key, nonce = randomBytes(12)) {
  const cipher = createCipheriv("aes-256-gcm", key, nonce);
  cipher.setAAD(Buffer.from(`imgus-job-v1\n${queue}\n${id}`));
  const box = Buffer.concat([cipher.update(job), cipher.final(), cipher.getAuthTag()]);
  const sealed = { key: keyId, nonce: nonce.toString("base64"), box: box.toString("base64") };
  return Buffer.from(JSON.stringify({ version: 1, id, sealed }));
}

// Encodes asynq.TaskMessage, a protocol buffer.
export function taskMessage(id, queue, payload, headers = {}) {
  const varint = (n) => {
    const out = [];
    for (; n > 0x7f; n = Math.floor(n / 128)) out.push((n % 128) | 0x80);
    return Buffer.from([...out, n]);
  };
  const number = (field, n) => Buffer.concat([varint(field << 3), varint(n)]);
  const data = (field, value) => {
    const bytes = Buffer.from(value);
    return Buffer.concat([varint((field << 3) | 2), varint(bytes.length), bytes]);
  };
  return Buffer.concat([
    data(1, "image:generate"),
    data(2, payload),
    data(3, id),
    data(4, queue),
    number(5, 1000), // retry, and timeout: the worker has limits of its own
    number(8, 24 * 60 * 60),
    ...Object.entries(headers).map(([name, value]) => data(15, Buffer.concat([data(1, name), data(2, value)]))),
  ]);
}

// Puts a payload into a queue, and tells whether its id was new there. It may be called again after any error.
export async function enqueue(redis, queue, id, payload, headers) {
  await redis.sAdd("asynq:queues", queue);
  const now = (BigInt(Date.now()) * 1_000_000n).toString();
  const added = await redis.eval(ENQUEUE, {
    keys: [`asynq:{${queue}}:t:${id}`, `asynq:{${queue}}:pending`],
    arguments: [taskMessage(id, queue, payload, headers), id, now],
  });
  return added === 1;
}

// Follows a job to its end. While Redis is away it goes on trying, as the client does.
export async function wait(redis, id) {
  const events = redis.duplicate();
  events.on("error", () => {}); // without a listener an error would end the program
  let wake = () => {};
  let seen = false;
  try {
    await events.connect();
    await events.subscribe(`imgus:events:${id}`, () => wake());
    for (;;) {
      // The hash is the truth; an event only says that it is worth a look, and may be missed.
      const next = new Promise((resolve) => (wake = resolve));
      const status = { ...(await redis.hGetAll(`imgus:job:${id}`)) };
      if (["done", "failed", "cancelled", "erased"].includes(status.state)) return status;
      if (seen && !status.state) return { state: "unknown" }; // it has expired or was erased: the record in the bucket tells
      seen = Boolean(status.state);
      const timer = setTimeout(wake, 1000);
      await next;
      clearTimeout(timer);
    }
  } finally {
    events.destroy();
  }
}

async function main([url, queue, jobFile, keyFile]) {
  let payload = await readFile(jobFile);
  if (payload.length > MAX_JOB) throw new Error("the job is larger than 64 KiB");
  const { id } = JSON.parse(payload);
  if (keyFile) {
    const key = Buffer.from(await readFile(keyFile, "utf8"), "base64");
    if (key.length !== 32) throw new Error("the key must be 32 bytes in base64");
    payload = seal(payload, queue, id, basename(keyFile), key);
  }
  const trace = process.env.TRACEPARENT;
  const redis = createClient({ url });
  redis.on("error", (error) => console.error(`redis: ${error.message}`));
  try {
    await redis.connect();
    if (!(await enqueue(redis, queue, id, payload, trace ? { traceparent: trace } : {}))) {
      console.error("the job was enqueued before");
    }
    const status = await wait(redis, id);
    console.log(JSON.stringify(status));
    process.exitCode = status.state === "done" ? 0 : 1;
  } finally {
    redis.destroy();
  }
}

if (process.argv[1] && import.meta.url === pathToFileURL(await realpath(process.argv[1])).href) {
  await main(process.argv.slice(2));
}
