"""The service with a slow view: requests that wait behind it are refused."""

import time

from app import create_app

app = create_app()


@app.post("/slow")
def slow() -> str:
    """Answer after a second."""
    time.sleep(1)
    return "done"
