"""Pack artifacts as versions, at build time only, in a process of its own (`python -m app.packing`).

Serving processes never import this package. The commands import `spawn`, which starts the process. Whatever cannot be
packed raises `PackingRefused`, whose text is one sentence for the user.
"""
