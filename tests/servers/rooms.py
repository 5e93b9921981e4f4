"""What a WebSocket server with rooms does, whatever library carries it; and its own count of everything.

A library's server gives each connection an object with `send(message)` (was it taken?), `close(code)` and `path`, and calls `Rooms.opened`,
`Rooms.received` and `Rooms.ended`.

    /echo      {"op": "ping", "id": x} is answered with {"op": "pong", "id": x}, anything else comes back as it is
    /push      every message {"op": "push", "count": n} brings n messages {"number": 1}, {"number": 2}, ...
    /goodbye   the first message is answered with close code 4001
    /room/x    a text is sent to everybody in room x; faults: one delivery in a thousand is dropped, doubled or swapped;
               a binary message from somebody in the room says that it is ready

    /room/x?silent&after=n&writers=m    speaks but is not in the room; is told "go" when n are ready, and says by a binary
               message that it is done; when all m are, and n are in the room, "the end" is sent to all of them

A fault is `drop`, `double` or `swap`; `die` ends the process with its fourth broadcast; `open` waits for nobody.
"""

import asyncio
import json
import os
import signal
import sys
from urllib.parse import parse_qs, urlsplit

PORT, COUNTS = int(sys.argv[1]), sys.argv[2]
FAULT = sys.argv[3] if len(sys.argv) > 3 else ""
FAULT_EVERY = 1_000
LAST_BROADCAST = 4


class Rooms:
    def __init__(self, send_all=None):
        self.send_all = send_all
        self.counts = {}
        self.members = {}
        self.deliveries = 0
        self.held = {}
        self.ready = asyncio.Condition()
        self.ready_in = {}
        self.done_in = {}
        self.log = open(os.path.join(os.path.dirname(COUNTS), "broadcasts.log"), "w", encoding="utf-8")

    def count(self, name, more=1):
        self.counts[name] = self.counts.get(name, 0) + more

    def save(self):
        with open(COUNTS + ".new", "w", encoding="utf-8") as file:
            json.dump(self.counts, file)
        os.replace(COUNTS + ".new", COUNTS)

    async def opened(self, connection):
        self.count("connections")
        room = Visit(connection)
        if room.is_silent and FAULT != "open":
            async with self.ready:
                await self.ready.wait_for(lambda: self.ready_in.get(room.name, 0) >= room.after)
        if room.is_silent:
            await self.send(connection, "go")
        elif room.name:
            self.members.setdefault(room.name, []).append(connection)
            await self.perhaps_end(room.name)

    def ended(self, connection, code):
        self.count(f"closed_{code}")
        members = self.members.get(Visit(connection).name, [])
        if connection in members:
            members.remove(connection)
        self.save()

    async def received(self, connection, message):
        self.count("received")
        if connection.path == "/push":
            for number in range(1, json.loads(message)["count"] + 1):
                await self.send(connection, json.dumps({"number": number}))
        elif connection.path == "/goodbye":
            await connection.close(4001)
        elif connection.path.startswith("/room/"):
            await self.said(Visit(connection), message)
        else:
            await self.send(connection, answer(message))

    async def send(self, connection, message):
        if await connection.send(message):
            self.count("sent")

    async def said(self, room, message):
        if isinstance(message, str):
            await self.broadcast(room.name, message)
        elif room.is_silent:
            done, _, _ = self.done_in.get(room.name, (0, 0, 0))
            self.done_in[room.name] = (done + 1, room.writers, room.after)
            await self.perhaps_end(room.name)
        else:
            async with self.ready:
                self.ready_in[room.name] = self.ready_in.get(room.name, 0) + 1
                self.ready.notify_all()

    async def perhaps_end(self, name):
        done, writers, after = self.done_in.get(name, (0, 1, 0))
        if done == writers and len(self.members.get(name, [])) >= after:
            del self.done_in[name]
            for member in list(self.members[name]):
                await self.send(member, "the end")

    async def broadcast(self, room, message):
        self.count("published")
        members = list(self.members.get(room, []))
        if FAULT not in ("drop", "double", "swap") and self.send_all:
            self.send_all(members, message)
            self.count("sent", len(members))
            members_left = []
        else:
            members_left = members
        for member in members_left:
            self.deliveries += 1
            faulty = FAULT and self.deliveries % FAULT_EVERY == 0
            if faulty and FAULT == "drop":
                self.count("dropped")
                continue
            if faulty and FAULT == "double":
                self.count("doubled")
                await self.send(member, message)
            if faulty and FAULT == "swap" and member not in self.held:
                self.held[member] = message
                continue
            await self.send(member, message)
            if member in self.held:
                self.count("swapped")
                await self.send(member, self.held.pop(member))
        self.log.write(f"{len(members)}\n")
        self.log.flush()
        if FAULT == "die" and self.counts["published"] == LAST_BROADCAST:
            os.kill(os.getpid(), signal.SIGKILL)


class Visit:
    """What a path says of a connection."""

    def __init__(self, connection):
        parts = urlsplit(connection.path)
        query = parse_qs(parts.query, keep_blank_values=True)
        self.name = parts.path if parts.path.startswith("/room/") else None
        self.is_silent = "silent" in query
        self.after = int(query.get("after", ["0"])[0])
        self.writers = int(query.get("writers", ["1"])[0])


def answer(message):
    if isinstance(message, str):
        try:
            parsed = json.loads(message)
            if parsed.get("op") == "ping":
                return json.dumps({"op": "pong", "id": parsed.get("id")})
        except (ValueError, AttributeError):
            pass
    return message
