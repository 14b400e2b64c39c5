"""Artifacts written by `joblib.dump` or `pickle.dump`: joblib reads both.

Unpickling runs whatever code the file names. It is done only to files whose hash is that of packing time, or at
packing, in a process of its own.
"""

from __future__ import annotations

import re
import warnings
from typing import Any, BinaryIO

from app.errors import LoadingFailed


def load(stream: BinaryIO) -> Any:
    """The object in the file; the stream is read to its end and left open.

    Raises:
        LoadingFailed: it is not a pickle, is damaged, or needs a library, class or function that is not there.
    """
    import joblib  # half a second, which a process that unpickles nothing does not spend

    try:
        with warnings.catch_warnings():
            # Another version of scikit-learn is told by the recorded predictions, not by a warning nobody reads.
            warnings.simplefilter("ignore")
            return joblib.load(stream)
    except ModuleNotFoundError as error:
        raise LoadingFailed(f"it needs {_library(error.name)}, which is not installed") from error
    except AttributeError as error:
        raise LoadingFailed(_missing_name(str(error))) from error
    except (KeyboardInterrupt, GeneratorExit):
        raise
    except BaseException as error:
        raise LoadingFailed(f"it is not a readable joblib or pickle file ({type(error).__name__}: {error})") from error


def _library(module: str | None) -> str:
    top = (module or "a module").partition(".")[0]
    return {"sklearn": "scikit-learn", "PIL": "pillow"}.get(top, top)


def _missing_name(message: str) -> str:
    main = re.search(r"Can't get attribute '(\w+)' on <module '(__main__|__mp_main__)'", message)
    if main:
        return (
            f"it uses {main[1]!r}, which was defined in a notebook or script: move it into a module that can be "
            "imported here, and save the model again"
        )
    return f"it needs something that the installed libraries do not have ({message})"
