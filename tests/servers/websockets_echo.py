"""A WebSocket server on Python's `websockets`: answers {"op": "ping", "id": x} with {"op": "pong", "id": x}, echoes
everything else, and keeps its own count of connections and messages."""

import asyncio
import json
import os
import sys

from websockets.asyncio.server import serve
from websockets.exceptions import ConnectionClosed

PORT, COUNTS = int(sys.argv[1]), sys.argv[2]
counts = {"connections": 0, "received": 0, "sent": 0, "closed_1000": 0}


def save():
    with open(COUNTS + ".new", "w", encoding="utf-8") as file:
        json.dump(counts, file)
    os.replace(COUNTS + ".new", COUNTS)


async def handle(socket):
    counts["connections"] += 1
    try:
        while True:
            message = await socket.recv()
            counts["received"] += 1
            answer = message
            if isinstance(message, str):
                try:
                    parsed = json.loads(message)
                    if parsed.get("op") == "ping":
                        answer = json.dumps({"op": "pong", "id": parsed.get("id")})
                except ValueError:
                    pass
            await socket.send(answer)
            counts["sent"] += 1
    except ConnectionClosed as closed:
        if closed.rcvd is not None and closed.rcvd.code == 1000:
            counts["closed_1000"] += 1
    finally:
        save()


async def main():
    async with serve(handle, "127.0.0.1", PORT) as server:
        await server.serve_forever()


asyncio.run(main())
