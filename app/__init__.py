"""Retort serves scikit-learn models over HTTP. This module is the public home of the names that users import.

Each name is imported when it is first used: `import app` alone loads nothing else, and serving never loads packing.
"""

import gc
import os
import sys
from importlib import import_module
from types import ModuleType
from typing import TYPE_CHECKING

__version__ = "0.1.0"

__all__ = [
    "Caller",
    "Interceptor",
    "InvalidInstances",
    "InvalidSettings",
    "ModelNotFound",
    "ModelNotPermitted",
    "ModelUnavailable",
    "Models",
    "PackedVersion",
    "PackingRefused",
    "Refused",
    "Registry",
    "RequestContext",
    "RequestRefused",
    "Response",
    "RetortError",
    "Settings",
    "VersionNotFound",
    "create_app",
    "factory",
    "needs_scope",
    "pack",
    "score",
    "step",
]

# Without this variable, importing ONNX Runtime starts a thread that sends usage data, and writes files below $HOME.
# Every process of ours imports this package before ONNX Runtime, and child processes inherit the variable.
os.environ["ORT_DISABLE_TELEMETRY"] = "1"

if TYPE_CHECKING:
    from app.core.models import Models
    from app.core.steps import Refused, factory, step
    from app.core.steps.services import Caller
    from app.errors import (
        InvalidInstances,
        InvalidSettings,
        ModelNotFound,
        ModelNotPermitted,
        ModelUnavailable,
        PackingRefused,
        RetortError,
        VersionNotFound,
    )
    from app.factory import create_app
    from app.gateway import Interceptor, RequestContext, RequestRefused, Response
    from app.gateway.keys import needs_scope
    from app.jobs.notebook import score
    from app.packing.notebook import pack
    from app.packing.start import PackedVersion
    from app.runtime.registry import Registry
    from app.settings import Settings
else:
    # The same for the interpreter. Type checkers do not see it, and so refuse a name that is not there.
    _HOMES = {
        "app.factory": ["create_app"],
        "app.core.steps.services": ["Caller"],
        "app.core.models": ["Models"],
        "app.core.steps": ["Refused", "factory", "step"],
        "app.errors": [
            "InvalidInstances",
            "InvalidSettings",
            "ModelNotFound",
            "ModelNotPermitted",
            "ModelUnavailable",
            "PackingRefused",
            "RetortError",
            "VersionNotFound",
        ],
        "app.gateway": ["Interceptor", "RequestContext", "RequestRefused", "Response"],
        "app.gateway.keys": ["needs_scope"],
        "app.jobs.notebook": ["score"],
        "app.packing.start": ["PackedVersion"],
        "app.packing.notebook": ["pack"],
        "app.runtime.registry": ["Registry"],
        "app.settings": ["Settings"],
    }
    _HOME_OF = {name: module for module, names in _HOMES.items() for name in names}

    def __getattr__(name):
        """Import a public name."""
        if name not in _HOME_OF:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        was_enabled = gc.isenabled()
        gc.disable()  # importing makes objects that stay
        try:
            found = getattr(import_module(_HOME_OF[name]), name)
        finally:
            if was_enabled:
                gc.enable()
        if name != "factory":  # which is a property of the package: see below
            globals()[name] = found
        return found

    class _Home(ModuleType):
        """This package, where `factory` is the decorator. Importing `app.factory` would replace it by that module."""

        @property
        def factory(self):
            return __getattr__("factory")

        @factory.setter
        def factory(self, module):
            pass

    sys.modules[__name__].__class__ = _Home

    def __dir__():
        """List the public names too, for completion."""
        return sorted({*globals(), *__all__})
