"""The variables that Kubernetes sets in the containers of a Service."""

from __future__ import annotations


def injected(service: str, address: str, port: int = 8000, protocol: str = "tcp") -> dict[str, str]:
    """Return the variables that Kubernetes sets for one Service, in both of its forms."""
    host = f"[{address}]" if ":" in address else address
    url, endpoint = f"{protocol}://{host}:{port}", f"{service}_PORT_{port}_{protocol.upper()}"
    return {
        f"{service}_SERVICE_HOST": address,
        f"{service}_SERVICE_PORT": str(port),
        f"{service}_SERVICE_PORT_HTTP": str(port),
        f"{service}_SERVICE_PORT_HTTP_METRICS": str(port),
        f"{service}_PORT": url,
        endpoint: url,
        f"{endpoint}_PROTO": protocol,
        f"{endpoint}_PORT": str(port),
        f"{endpoint}_ADDR": address,
    }
