#!/usr/bin/env python3
"""Enqueues a job for the imgus worker and waits for its end, without Go. docs/wire-format.md says what is done here.

    python enqueue.py REDIS_URL QUEUE JOB.json [KEY_FILE]

KEY_FILE is a key to seal the job with; its name is the key's id.
"""

import base64
import json
import os
import sys
import time

import redis
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

MAX_JOB = 64 * 1024

# Nothing happens if there is a task of this id already.
ENQUEUE = """
if redis.call("EXISTS", KEYS[1]) == 1 then return 0 end
redis.call("HSET", KEYS[1], "msg", ARGV[1], "state", "pending", "pending_since", ARGV[3])
redis.call("LPUSH", KEYS[2], ARGV[2])
return 1
"""


def seal(job: bytes, queue: str, job_id: str, key_id: str, key: bytes, nonce: bytes = b"") -> bytes:
    """Encrypts a job for its queue and id. A nonce is never used twice: only tests give one."""
    nonce = nonce or os.urandom(12)
    box = AESGCM(key).encrypt(nonce, job, f"imgus-job-v1\n{queue}\n{job_id}".encode())
    sealed = {"key": key_id, "nonce": base64.b64encode(nonce).decode(), "box": base64.b64encode(box).decode()}
    return json.dumps({"version": 1, "id": job_id, "sealed": sealed}).encode()


def task_message(job_id: str, queue: str, payload: bytes, headers: dict[str, str]) -> bytes:
    """Encodes asynq.TaskMessage, a protocol buffer."""

    def varint(n: int) -> bytes:
        out = bytearray()
        while n > 0x7F:
            out.append(n & 0x7F | 0x80)
            n >>= 7
        return bytes(out) + bytes([n])

    def number(field: int, n: int) -> bytes:
        return varint(field << 3) + varint(n)

    def data(field: int, value: bytes) -> bytes:
        return varint(field << 3 | 2) + varint(len(value)) + value

    message = data(1, b"image:generate") + data(2, payload) + data(3, job_id.encode()) + data(4, queue.encode())
    message += number(5, 1000) + number(8, 24 * 60 * 60)  # retry, timeout: the worker has limits of its own
    for name, value in headers.items():
        message += data(15, data(1, name.encode()) + data(2, value.encode()))
    return message


def enqueue(r: redis.Redis, queue: str, job_id: str, payload: bytes, headers: dict[str, str]) -> bool:
    """Puts a payload into a queue, and tells whether its id was new there. It may be called again after any error."""
    r.sadd("asynq:queues", queue)
    keys = [f"asynq:{{{queue}}}:t:{job_id}", f"asynq:{{{queue}}}:pending"]
    return r.eval(ENQUEUE, 2, *keys, task_message(job_id, queue, payload, headers), job_id, time.time_ns()) == 1


def wait(r: redis.Redis, job_id: str) -> dict[str, str]:
    """Follows a job to its end. After an error of Redis call it again."""
    seen = False
    with r.pubsub(ignore_subscribe_messages=True) as events:
        events.subscribe(f"imgus:events:{job_id}")
        while True:
            # The hash is the truth; an event only says that it is worth a look, and may be missed.
            status = {k.decode(): v.decode() for k, v in r.hgetall(f"imgus:job:{job_id}").items()}
            if status.get("state") in ("done", "failed", "cancelled", "erased"):
                return status
            if seen and not status:
                return {"state": "unknown"}  # it has expired or was erased: the record in the bucket tells
            seen = bool(status)
            events.get_message(timeout=1.0)


def main() -> None:
    url, queue, job_file, *key_file = sys.argv[1:]
    with open(job_file, "rb") as file:
        payload = file.read()
    if len(payload) > MAX_JOB:
        sys.exit("the job is larger than 64 KiB")
    job_id = json.loads(payload)["id"]
    if key_file:
        with open(key_file[0], "rb") as file:
            key = base64.b64decode(file.read().strip(), validate=True)
        if len(key) != 32:
            sys.exit("the key must be 32 bytes in base64")
        payload = seal(payload, queue, job_id, os.path.basename(key_file[0]), key)
    trace = os.environ.get("TRACEPARENT")
    r = redis.Redis.from_url(url)
    if not enqueue(r, queue, job_id, payload, {"traceparent": trace} if trace else {}):
        print("the job was enqueued before", file=sys.stderr)
    status = wait(r, job_id)
    print(json.dumps(status))
    sys.exit(0 if status["state"] == "done" else 1)


if __name__ == "__main__":
    main()
