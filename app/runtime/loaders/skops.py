"""Load artifacts written by `skops.io.dump`. No code runs; only types that skops trusts are built."""

from __future__ import annotations

from typing import Any, BinaryIO

from app.errors import LoadingFailed
from app.runtime.servable import ArtifactServable, Servable
from app.signature import Signature


def load(stream: BinaryIO, signature: Signature) -> Servable:
    """Return the servable of the estimator in the file.

    Raises:
        LoadingFailed: as in `read`.
    """
    return ArtifactServable(read(stream), signature)


def read(stream: BinaryIO) -> Any:
    """Return the object in the file. The stream is read to its end and left open.

    Raises:
        LoadingFailed: the file is not a skops file, it holds types that skops does not trust, or skops is not
            installed.
    """
    try:
        import skops.io  # an extra, needed for this format alone
    except ModuleNotFoundError:
        raise LoadingFailed("it needs skops, which is not installed: pip install 'retort-serving[skops]'") from None
    content = stream.read()
    try:
        untrusted = skops.io.get_untrusted_types(data=content)
        if not untrusted:
            return skops.io.loads(content)
    except Exception as error:
        raise LoadingFailed(f"it is not a readable skops file ({type(error).__name__}: {error})") from error
    raise LoadingFailed("it holds types that are not trusted: " + ", ".join(untrusted))
