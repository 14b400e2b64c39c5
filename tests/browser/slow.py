"""The service with a view that takes its time: what waits behind it is refused."""

import time

from app import create_app

app = create_app()


@app.post("/slow")
def slow() -> str:
    """Answer after a second."""
    time.sleep(1)
    return "done"
