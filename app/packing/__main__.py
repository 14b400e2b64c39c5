"""The process of its own: `python -m app.packing pack|check|serve REQUEST RESULT_FILE`; started by `spawn`."""

from __future__ import annotations

import sys
import warnings
from pathlib import Path

import msgspec

from app.errors import RetortError
from app.packing.spawn import CheckRequest, PackRequest, Result, ServeRequest
from app.packing.write import check, pack, serve


def main(verb: str, request: str, result_file: str) -> None:
    """Does what is asked and writes the result in one piece."""
    warnings.simplefilter("ignore")
    try:
        if verb == "pack":
            result = pack(msgspec.json.decode(request, type=PackRequest))
        elif verb == "serve":
            result = serve(msgspec.json.decode(request, type=ServeRequest))
        else:
            result = check(msgspec.json.decode(request, type=CheckRequest))
    except RetortError as error:
        result = Result(refused=error.detail)
    except OSError as error:
        result = Result(refused=f"{error.filename}: {error.strerror}" if error.filename else str(error))
    beside = Path(result_file + ".part")
    beside.write_bytes(msgspec.json.encode(result))
    beside.replace(result_file)


if __name__ == "__main__":
    main(*sys.argv[1:])
