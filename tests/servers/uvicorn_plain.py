"""uvicorn without a WebSocket library: it answers an upgrade as if it were a plain request for a route that is not there."""

import sys

import uvicorn

PORT = int(sys.argv[1])


async def app(scope, receive, send):
    if scope["type"] != "http":
        return
    status = 200 if scope["path"] == "/" else 404
    await send({"type": "http.response.start", "status": status, "headers": [(b"content-type", b"text/plain")]})
    await send({"type": "http.response.body", "body": b"plain"})


uvicorn.run(app, host="127.0.0.1", port=PORT, ws="none", log_level="warning", lifespan="off")
