"""The path of every request: context, interceptors, prediction endpoint, errors. It uses WSGI and no framework.

An application adds code around every request with an interceptor: see docs/extending.md.
"""

from app.gateway.context import RequestContext
from app.gateway.errors import RequestRefused
from app.gateway.interceptors import Interceptor
from app.server.contract import Response

__all__ = ["Interceptor", "RequestContext", "RequestRefused", "Response"]
