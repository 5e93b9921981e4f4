"""What a WebSocket server with rooms does, whatever library carries it; and its own count of everything.

A library's server gives each connection an object with `send(message)` (was it taken?), `close(code)` and `path`, and calls `Rooms.opened`,
`Rooms.received` and `Rooms.ended`.

    /echo      {"op": "ping", "id": x} is answered with {"op": "pong", "id": x}, anything else comes back as it is
    /push      every message {"op": "push", "count": n} brings n messages {"number": 1}, {"number": 2}, ...
    /goodbye   the first message is answered with close code 4001
    /room/x    a text is sent to everybody in room x; faults: one delivery in a thousand is dropped, doubled or swapped;
               who comes with ?silent speaks but is not in the room
"""

import json
import os
import sys

PORT, COUNTS = int(sys.argv[1]), sys.argv[2]
FAULT = sys.argv[3] if len(sys.argv) > 3 else ""
FAULT_EVERY = 1_000
SILENT = "?silent"


class Rooms:
    def __init__(self, send_all=None):
        self.send_all = send_all
        self.counts = {}
        self.members = {}
        self.deliveries = 0
        self.held = {}
        self.log = open(os.path.join(os.path.dirname(COUNTS), "broadcasts.log"), "w", encoding="utf-8")

    def count(self, name, more=1):
        self.counts[name] = self.counts.get(name, 0) + more

    def save(self):
        with open(COUNTS + ".new", "w", encoding="utf-8") as file:
            json.dump(self.counts, file)
        os.replace(COUNTS + ".new", COUNTS)

    def opened(self, connection):
        self.count("connections")
        if connection.path.startswith("/room/") and not connection.path.endswith(SILENT):
            self.members.setdefault(connection.path, []).append(connection)

    def ended(self, connection, code):
        self.count(f"closed_{code}")
        members = self.members.get(connection.path, [])
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
            await self.broadcast(connection.path.removesuffix(SILENT), message)
        else:
            await self.send(connection, answer(message))

    async def send(self, connection, message):
        if await connection.send(message):
            self.count("sent")

    async def broadcast(self, room, message):
        self.count("published")
        members = list(self.members.get(room, []))
        if not FAULT and self.send_all:
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


def answer(message):
    if isinstance(message, str):
        try:
            parsed = json.loads(message)
            if parsed.get("op") == "ping":
                return json.dumps({"op": "pong", "id": parsed.get("id")})
        except (ValueError, AttributeError):
            pass
    return message
