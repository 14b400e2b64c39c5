"""The path of every request: context, interceptors, prediction endpoint, errors. It uses WSGI and no framework.

An application adds code around every request with an interceptor:

    class Tenants(Interceptor):
        def before(self, context):
            if "HTTP_X_TENANT" not in context.environ:
                raise RequestRefused(403, "no-tenant", "the header X-Tenant is missing")

    app = create_app(interceptors=[Tenants()])
"""

from app.gateway.context import RequestContext
from app.gateway.errors import RequestRefused
from app.gateway.interceptors import Interceptor
from app.server.contract import Response

__all__ = ["Interceptor", "RequestContext", "RequestRefused", "Response"]
