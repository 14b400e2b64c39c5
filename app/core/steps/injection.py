"""svcs, without the web frameworks that it imports wherever they are installed.

Importing aiohttp takes a tenth of a second of each start, and Retort is a Flask application. Code of a user that
imports `svcs.aiohttp` still gets it.
"""

from __future__ import annotations

import sys
from typing import Any, cast

_OTHERS = ("svcs.aiohttp", "svcs.fastapi", "svcs.starlette")

_modules = cast(dict[str, Any], sys.modules)
_left_out = [name for name in _OTHERS if "svcs" not in _modules]
_modules.update(dict.fromkeys(_left_out))  # None stands for a module that cannot be imported
try:
    import svcs
finally:
    for _name in _left_out:
        del _modules[_name]

__all__ = ["svcs"]
