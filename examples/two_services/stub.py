"""Stub of both services, one on each port: `python stub.py 9001 9002`."""

import json
import sys
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread


class Stations(BaseHTTPRequestHandler):
    """The same weather, and the same number of bikes, at every station."""

    def do_GET(self) -> None:
        """Answer every path in the form of both services."""
        self.send_response(200)
        self.end_headers()
        self.wfile.write(json.dumps({"temperature": 20.0, "parked": 5.0}).encode())


if __name__ == "__main__":
    for port in sys.argv[1:]:
        Thread(target=ThreadingHTTPServer(("127.0.0.1", int(port)), Stations).serve_forever).start()
