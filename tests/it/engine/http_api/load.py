"""A thousand connections at a time: `load.py PORT TOKEN`. Prints one line of JSON with what came of each kind.

They come from 127.0.0.2 and so on, CONNECTIONS_EACH from each address, so that the bound of one address is not what is tried.
"""

import asyncio
import json
import sys

PORT, TOKEN = int(sys.argv[1]), sys.argv[2]
CONNECTIONS_EACH = 16
FIELDS = "Host: localhost\r\nAuthorization: Bearer %s\r\n" % TOKEN
SUBMISSIONS, SLOW_HEADS, SLOW_BODIES, SLOW_READERS, IDLE = 256, 244, 100, 100, 300
counts = {}
opened = 0
all_open = asyncio.Event()


def count(what):
    counts[what] = counts.get(what, 0) + 1


async def connect(number):
    global opened
    address = "127.0.%d.%d" % (1 + number // CONNECTIONS_EACH // 250, 2 + number // CONNECTIONS_EACH % 250)
    connection = await asyncio.open_connection("127.0.0.1", PORT, local_addr=(address, 0), limit=1 << 20)
    opened += 1
    if opened == SUBMISSIONS + SLOW_HEADS + SLOW_BODIES + SLOW_READERS + IDLE:
        all_open.set()
    return connection


async def answer(reader):
    head = await reader.readuntil(b"\r\n\r\n")
    status = int(head[9:12])
    length = [line for line in head.lower().split(b"\r\n") if line.startswith(b"content-length:")]
    return status, await reader.readexactly(int(length[0].split(b":")[1])) if length else b""


async def submission(number):
    reader, writer = await connect(number)
    await all_open.wait()
    work = {"language": "bash", "files": [{"path": "main.sh", "content": "echo %d" % number}], "deadline_ms": 600000}
    work["limits"] = {"cpu_ms": 60000, "wall_ms": 120000}
    body = json.dumps(work).encode()
    head = "POST /api/v1/submissions HTTP/1.1\r\n%sContent-Type: application/json\r\nContent-Length: %d\r\n\r\n" % (FIELDS, len(body))
    writer.write(head.encode() + body)
    status, body = await answer(reader)
    report = json.loads(body)
    right = status == 200 and report["verdict"] == "accepted" and report["run"]["stdout"] == "%d\n" % number
    count("judged" if right else "submission: %d %s" % (status, body[:200]))
    writer.close()


async def dribble(writer, reader, piece):
    """Writes a byte at a time until the daemon has enough of it."""
    while not reader.at_eof():
        writer.write(piece)
        await writer.drain()
        await asyncio.sleep(0.5)


async def slow_head(number):
    reader, writer = await connect(number)
    try:
        writer.write(("GET /api/v1/profiles HTTP/1.1\r\n%sX-Slow: " % FIELDS).encode())
        await asyncio.gather(dribble(writer, reader, b"x"), reader.read())
    except OSError:
        pass
    count("slow head ended")


async def slow_body(number):
    reader, writer = await connect(number)
    try:
        writer.write(("POST /api/run-code HTTP/1.1\r\n%sContent-Type: application/json\r\nContent-Length: 100000\r\n\r\n" % FIELDS).encode())
        await asyncio.gather(dribble(writer, reader, b"x"), reader.read())
    except OSError:
        pass
    count("slow body ended")


async def slow_reader(number):
    """Asks for much and reads nothing, until the daemon closes the connection."""
    reader, writer = await connect(number)
    writer.transport.pause_reading()
    try:
        request = ("GET /api/v1/openapi.json HTTP/1.1\r\n%s\r\n" % FIELDS).encode()
        for _ in range(400):
            writer.write(request)
        await writer.drain()
        await done.wait()
    except OSError:
        pass
    writer.transport.abort()
    count("slow reader")


async def idle(number):
    reader, writer = await connect(number)
    await all_open.wait()
    try:
        writer.write(("GET /livez HTTP/1.1\r\n%s\r\n" % FIELDS).encode())
        status, _ = await answer(reader)
        count("idle: %d" % status)
        await reader.read()
    except (OSError, asyncio.IncompleteReadError):
        # it waited for the others for longer than a head may take
        count("idle: closed")


async def main():
    global done
    done = asyncio.Event()
    kinds = [(submission, SUBMISSIONS), (slow_head, SLOW_HEADS), (slow_body, SLOW_BODIES), (slow_reader, SLOW_READERS), (idle, IDLE)]
    numbers = iter(range(2000))
    tasks = [(kind, asyncio.ensure_future(kind(next(numbers)))) for kind, many in kinds for _ in range(many)]
    await all_open.wait()
    print("open", flush=True)
    await asyncio.gather(*(task for kind, task in tasks if kind is submission))
    print("judged", flush=True)
    done.set()
    await asyncio.gather(*(task for _, task in tasks))
    print(json.dumps(counts), flush=True)


asyncio.run(main())
