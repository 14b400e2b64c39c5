"""The loader of each format: it reads a verified file into a servable. To add one, name it in `READERS` or `LOADERS`.

Unpickling runs any code that the file names. So Retort unpickles only files whose hash was recorded at packing, or, at
packing, in a separate process. A file of skops runs no code: only types that skops trusts are built. A graph needs no
unpickling, and neither scikit-learn nor pandas.

A reader or loader raises `LoadingFailed` if it cannot read the file. The stream is read to its end and left open.
"""

from __future__ import annotations

import re
import warnings
from collections.abc import Callable
from functools import partial
from importlib.util import find_spec
from typing import Any, BinaryIO

from app.errors import LoadingFailed, one_line
from app.runtime.servable import ArtifactServable, Servable
from app.signature import Signature

Loader = Callable[[BinaryIO, Signature], Servable]

MAX_CAUSE_CHARS = 300


def read_joblib(stream: BinaryIO) -> Any:
    """Return the object in a file of `joblib.dump` or `pickle.dump`; joblib reads both."""
    try:
        import joblib  # takes half a second; not needed if nothing is unpickled

        return joblib.load(stream)
    except ModuleNotFoundError as error:
        raise LoadingFailed(_missing_module(error.name or "a module")) from error
    except AttributeError as error:
        raise LoadingFailed(_missing_name(str(error))) from error
    except (KeyboardInterrupt, GeneratorExit):
        raise
    except BaseException as error:
        cause = one_line(error, MAX_CAUSE_CHARS)
        raise LoadingFailed(f"it is not a readable joblib or pickle file ({type(error).__name__}: {cause})") from error


def _missing_module(module: str) -> str:
    top = module.partition(".")[0]
    library = {"sklearn": "scikit-learn", "PIL": "pillow"}.get(top, top)
    if find_spec("joblib") is None:
        return (
            "it is not served as a graph, so that it needs scikit-learn, pandas and joblib: "
            "pip install -r requirements.txt"
        )
    if top != module and find_spec(top) is not None:
        return f"it needs the module {module}, which the installed {library} does not have"
    sentence = f"it needs {library}, which is not installed"
    own = " or, if it is a module of your own, not beside wsgi.py (where it is to be committed) or on PYTHONPATH"
    # Do not advise `pip install` if the module may be the user's own: an unrelated package may have its name.
    return sentence + (own if library == module else f": pip install {library}")


def _missing_name(message: str) -> str:
    # Python's message depends on the pickle's protocol, and on whether the process was started with -m.
    main = re.search(r"attribute '([\w.]+)' on <module '(?:[\w.]+\.)?__(?:mp_)?main__'", message)
    main = main or re.search(r"module '__(?:mp_)?main__' has no attribute '([\w.]+)'", message)
    if main:
        return (
            f"it uses {main[1]!r}, which was defined in a notebook or script: move it into a module that can be "
            "imported here, and save the model again"
        )
    without_path = re.sub(r" from '[^']*'", "", message)
    return f"it needs something that the installed libraries do not have ({without_path})"


def read_skops(stream: BinaryIO) -> Any:
    """Return the object in a file of `skops.io.dump`, if skops trusts its types."""
    try:
        import skops.io  # an extra, needed for this format alone
    except ModuleNotFoundError:
        raise LoadingFailed("it needs skops, which is not installed: pip install skops") from None
    content = stream.read()
    try:
        untrusted = skops.io.get_untrusted_types(data=content)
        if not untrusted:
            return skops.io.loads(content)
    except Exception as error:
        raise LoadingFailed(f"it is not a readable skops file ({type(error).__name__}: {error})") from error
    raise LoadingFailed("it holds types that are not trusted: " + ", ".join(untrusted))


READERS: dict[str, Callable[[BinaryIO], Any]] = {"joblib": read_joblib, "skops": read_skops}
"""The formats that hold an estimator."""


def load_estimator(read: Callable[[BinaryIO], Any], stream: BinaryIO, signature: Signature) -> Servable:
    """Return the servable of an estimator."""
    with warnings.catch_warnings():
        # scikit-learn warns if the artifact is from another version. The recorded answers decide instead.
        warnings.simplefilter("ignore")
        return ArtifactServable(read(stream), signature)


def load_onnx(stream: BinaryIO, signature: Signature) -> Servable:
    """Return the servable of a graph. External weights are read from the file's folder."""
    from app.runtime.graph import GraphServable, session_of  # imported only if a graph is served

    return GraphServable(session_of(stream), signature)


LOADERS: dict[str, Loader] = {name: partial(load_estimator, read) for name, read in READERS.items()}
LOADERS["onnx"] = load_onnx
