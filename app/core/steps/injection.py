"""Import svcs without its integrations of other web frameworks, which it imports if they are installed.

Importing aiohttp would add a tenth of a second to each start. A user's code can still import `svcs.aiohttp`.
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
