"""An artifact becomes a version: build time only, in a process of its own (`python -m app.packing`).

The serving process never imports this package; the command line imports `spawn`, which starts the process.
"""
