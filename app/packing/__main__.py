"""The process of its own: `python -m app.packing pack|check|serve REQUEST RESULT_FILE`; started by `spawn`."""

from __future__ import annotations

import sys
import warnings
from pathlib import Path

import msgspec

from app.errors import RetortError
from app.packing.spawn import CheckRequest, PackRequest, Result, ServeRequest


def main(verb: str, request: str, result_file: str) -> None:
    """Does what is asked and writes the result in one piece."""
    warnings.simplefilter("ignore")
    try:
        result = _done(verb, request)
    except ModuleNotFoundError as error:
        because = f"packing needs {error.name}, which is not installed here: pip install -r requirements.txt"
        result = Result(refused=because)
    except RetortError as error:
        result = Result(refused=error.detail)
    except OSError as error:
        result = Result(refused=f"{error.filename}: {error.strerror}" if error.filename else str(error))
    beside = Path(result_file + ".part")
    beside.write_bytes(msgspec.json.encode(result))
    beside.replace(result_file)


def _done(verb: str, request: str) -> Result:
    if verb == "serve":
        from app.packing.serve import serve  # without scikit-learn, which serving a graph does not need

        return serve(msgspec.json.decode(request, type=ServeRequest))
    from app.packing.write import check, pack

    if verb == "pack":
        return pack(msgspec.json.decode(request, type=PackRequest))
    return check(msgspec.json.decode(request, type=CheckRequest))


if __name__ == "__main__":
    main(*sys.argv[1:])
