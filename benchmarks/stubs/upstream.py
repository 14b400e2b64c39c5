"""The upstream service: answers any GET after 100 ms, or another time. `python upstream.py PORT [SECONDS]`."""

import asyncio
import sys

WAIT_S = float(sys.argv[2]) if len(sys.argv) > 2 else 0.1
BODY = b'{"feature1": 5.1}'
ANSWER = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n" % len(BODY) + BODY


class Upstream(asyncio.Protocol):
    def connection_made(self, transport):
        self.transport = transport
        self.received = b""

    def data_received(self, received):
        self.received += received
        while (end := self.received.find(b"\r\n\r\n")) >= 0:
            self.received = self.received[end + 4 :]
            asyncio.get_running_loop().call_later(WAIT_S, self.answer)

    def answer(self):
        if not self.transport.is_closing():
            self.transport.write(ANSWER)


async def main(port):
    server = await asyncio.get_running_loop().create_server(Upstream, "127.0.0.1", port, backlog=8192)
    await server.serve_forever()


if __name__ == "__main__":
    asyncio.run(main(int(sys.argv[1])))
