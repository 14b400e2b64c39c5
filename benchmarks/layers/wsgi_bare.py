"""A WSGI application that reads the body and answers a constant, to measure the socket and the server."""

ANSWER = b'{"prediction":[0]}'
HEADERS = [("Content-Type", "application/json"), ("Content-Length", str(len(ANSWER)))]


def app(environ, start_response):
    environ["wsgi.input"].read()
    start_response("200 OK", HEADERS)
    return [ANSWER]
