"""Measure the phases of a small request inside the application, one request after another without a socket.

Read request bodies as a JSON list of strings from standard input, serve the models in `RETORT_MODELS_DIR`, and write
the median of each phase of `Server-Timing`, and of the rest of the call (`rest`), in microseconds.
"""

import io
import json
import re
import statistics
import sys
import time

from app import create_app

WARM, REQUESTS = 500, 4000


def main() -> None:
    bodies = [body.encode() for body in json.load(sys.stdin)]
    app = create_app()
    if app.test_client().get("/readyz").status_code != 200:
        raise SystemExit("the model is not ready")
    found: dict[str, list[float]] = {}
    told: list[dict[str, str]] = []
    for turn in range(WARM + REQUESTS):
        body = bodies[turn % len(bodies)]
        environ = {
            "REQUEST_METHOD": "POST",
            "PATH_INFO": "/predict",
            "CONTENT_LENGTH": str(len(body)),
            "wsgi.input": io.BytesIO(body),
        }
        began_s = time.perf_counter()
        app(environ, lambda status, headers, *_: told.append(dict(headers)))
        call_us = 1e6 * (time.perf_counter() - began_s)
        if turn < WARM:
            continue
        phases = re.findall(r"(\w+);dur=([\d.]+)", told[-1]["Server-Timing"])
        for name, ms in phases:
            found.setdefault(name, []).append(1e3 * float(ms))
        found.setdefault("rest", []).append(call_us - sum(1e3 * float(ms) for _, ms in phases))
    print(json.dumps({name: statistics.median(each) for name, each in found.items()}))


if __name__ == "__main__":
    main()
