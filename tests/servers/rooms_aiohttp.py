"""`rooms.py` on Python's `aiohttp`, which serves HTTP beside it."""

from aiohttp import WSMsgType, web

from rooms import PORT, Rooms

rooms = Rooms()


class Connection:
    def __init__(self, socket, path):
        self.socket, self.path = socket, path

    async def send(self, message):
        try:
            if isinstance(message, str):
                await self.socket.send_str(message)
            else:
                await self.socket.send_bytes(message)
        except ConnectionResetError:
            return False
        return True

    async def close(self, code):
        await self.socket.close(code=code)


async def upgrade(request):
    socket = web.WebSocketResponse(autoping=False)
    await socket.prepare(request)
    connection = Connection(socket, request.path)
    await rooms.opened(connection)
    async for message in socket:
        if message.type == WSMsgType.PING:
            rooms.count("pings")
            await socket.pong(message.data)
        elif message.type in (WSMsgType.TEXT, WSMsgType.BINARY):
            await rooms.received(connection, message.data)
    rooms.ended(connection, socket.close_code)
    return socket


async def plain(request):
    rooms.count("requests")
    return web.Response(text="ok")


app = web.Application()
app.router.add_get("/plain", plain)
app.router.add_get("/{path:.*}", upgrade)
web.run_app(app, host="127.0.0.1", port=PORT, print=None)
