"""The service with a hook of a user's own: requests go through Flask, in a thread."""

from app import create_app

app = create_app()


@app.before_request
def look() -> None:
    """Let every request through."""
