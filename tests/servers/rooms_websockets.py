"""`rooms.py` on Python's `websockets`; over TLS with a certificate and its key as fourth and fifth argument."""

import asyncio
import ssl
import sys

from websockets.asyncio.server import broadcast, serve
from websockets.exceptions import ConnectionClosed
from websockets.frames import Opcode

from rooms import PORT, Rooms

# Encodes a message once for all of them.
rooms = Rooms(lambda members, message: broadcast([member.socket for member in members], message))


class Connection:
    def __init__(self, socket):
        self.socket, self.path = socket, socket.request.path

    async def send(self, message):
        # Some messages come in pieces, which have to be put together again.
        if self.path == "/push":
            message = [message[:3], message[3:]]
        try:
            await self.socket.send(message)
        except ConnectionClosed:
            return False
        return True

    async def close(self, code):
        await self.socket.close(code)


async def handle(socket):
    # The library answers pings by itself and tells nobody, and it puts messages together.
    receive_frame, send_frame = socket.protocol.recv_frame, socket.protocol.send_frame

    def received(frame):
        rooms.count("frames_received")
        if frame.opcode is Opcode.PING:
            rooms.count("pings")
        return receive_frame(frame)

    def sent(frame):
        rooms.count("frames_sent")
        return send_frame(frame)

    socket.protocol.recv_frame, socket.protocol.send_frame = received, sent
    connection = Connection(socket)
    await rooms.opened(connection)
    try:
        async for message in socket:
            await rooms.received(connection, message)
    except ConnectionClosed:
        pass
    rooms.ended(connection, socket.close_code)


def tls():
    if len(sys.argv) < 6:
        return None
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(sys.argv[4], sys.argv[5])
    return context


async def main():
    options = {"ping_interval": None, "compression": None, "max_size": None}
    async with serve(handle, "127.0.0.1", PORT, ssl=tls(), **options) as server:
        await server.serve_forever()


asyncio.run(main())
