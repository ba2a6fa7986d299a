"""A server that answers chat completions after a while and counts what it was asked.

``python counting_server.py LATENCY_SECONDS`` prints its port. ``GET /counts`` gives
``{prompt: times asked}``, ``GET /most`` how many were under way at once.
"""

from __future__ import annotations

import asyncio
import json
import sys
from collections import Counter

LATENCY = float(sys.argv[1]) if len(sys.argv) > 1 else 0.0
asked: Counter[str] = Counter()
at_once = {"now": 0, "most": 0}


async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    try:
        while True:
            head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").lower()
            size = head.partition("content-length:")[2].split("\r\n")[0].strip()
            body = await reader.readexactly(int(size or 0))
            if head.startswith("get /most"):
                reply = {"most": at_once["most"]}
            elif head.startswith("get"):
                reply = dict(asked)
            else:
                prompt = json.loads(body)["messages"][-1]["content"]
                asked[prompt] += 1
                at_once["now"] += 1
                at_once["most"] = max(at_once["most"], at_once["now"])
                await asyncio.sleep(LATENCY)
                at_once["now"] -= 1
                reply = {
                    "id": "x",
                    "object": "chat.completion",
                    "model": "m",
                    "choices": [
                        {
                            "index": 0,
                            "finish_reason": "stop",
                            "message": {"role": "assistant", "content": f"answer to {prompt}"},
                        }
                    ],
                    "usage": {"prompt_tokens": 1000, "completion_tokens": 100},
                }
            data = json.dumps(reply).encode()
            writer.write(
                b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n"
                + f"Content-Length: {len(data)}\r\n\r\n".encode()
                + data
            )
            await writer.drain()
    except (asyncio.IncompleteReadError, ConnectionError):
        pass
    finally:
        writer.close()


async def main() -> None:
    server = await asyncio.start_server(handle, "127.0.0.1", 0)
    print(server.sockets[0].getsockname()[1], flush=True)
    await server.serve_forever()


if __name__ == "__main__":
    asyncio.run(main())
