"""Read what a pickle names, its modules and its scikit-learn versions, without building or running anything in it.

The opcodes are walked with a stack of placeholders. Nothing that the file names is imported or called, whatever is
long is skipped instead of kept, and the walk ends after a limit of time, depth and memory.

Sources: `pickletools.opcodes`; `joblib/numpy_pickle.py`, which writes the bytes of an array between two opcodes.
"""

from __future__ import annotations

import bz2
import gzip
import importlib
import io
import lzma
import math
import re
import time
import zlib
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import IO, Any

MAX_SECONDS = 60.0
MAX_TEXT_BYTES = 256
MAX_STACK = 2_000_000
MAX_MARKS = 100_000
MAX_KEPT = 1_000_000
MAX_MODULES = 10_000
MAX_VERSIONS = 20
OPCODES_BETWEEN_CHECKS = 4096
CHUNK_BYTES = 1 << 20

VERSION_KEY = "_sklearn_version"
WRAPPER = "NumpyArrayWrapper"
WRAPPER_KEYS = ("shape", "dtype", "numpy_array_alignment_bytes")
OBJECTS_INSIDE = 0x01
"""The flag of a NumPy dtype whose elements refer to Python objects."""


class _Stopped(Exception):
    """The file ends early, is no pickle, or goes beyond a limit."""


@dataclass(slots=True)
class Named:
    """What a pickle names: modules, and scikit-learn versions, each once, that of the outermost object last.

    `whole` tells whether the file was read to its end.
    """

    modules: set[str] = field(default_factory=set)
    versions: dict[str, None] = field(default_factory=dict)
    whole: bool = False

    def note_version(self, version: str) -> None:
        """Note the version of an object whose parts were noted before: its state follows theirs in a pickle."""
        self.versions.pop(version, None)
        if len(self.versions) < MAX_VERSIONS:
            self.versions[version] = None


@dataclass(frozen=True, slots=True)
class _Global:
    module: str
    name: str


@dataclass(slots=True)
class _Dtype:
    """A NumPy dtype: its code (`f8`, `O8`, `V64`), and what its state says of size and contents."""

    code: str
    itemsize: int = -1
    flags: int = 0

    @property
    def has_objects(self) -> bool:
        return self.code.startswith("O") or bool(self.flags & OBJECTS_INSIDE)

    @property
    def itemsize_bytes(self) -> int:
        if self.itemsize > 0:
            return self.itemsize
        code = re.fullmatch(r"([a-zA-Z?])(\d*)", self.code)
        if code is None:
            raise _Stopped
        return int(code[2] or 1) * (4 if code[1] == "U" else 1)


class _Wrapper:
    """joblib's placeholder for an array whose bytes follow it in the file."""

    __slots__ = ("state",)

    def __init__(self) -> None:
        self.state: dict[str, Any] = {}


class _Opaque:
    """Everything that does not matter."""


OPAQUE = _Opaque()


def _lz4(stream: IO[bytes]) -> IO[bytes]:
    opened: IO[bytes] = importlib.import_module("lz4.frame").open(stream)  # not a library of ours: where it is there
    return opened


def read(stream: IO[bytes]) -> Named:
    """Walk a pickle as `pickle.dump` or `joblib.dump` write it, compressed or not."""
    named = Named()
    begins = stream.read(8)
    stream.seek(0)
    try:
        for prefix, opened in PREFIXES.items():
            if begins.startswith(prefix):
                stream = opened(stream)
                break
        _Walk(stream, named, time.monotonic() + MAX_SECONDS).run()
        named.whole = True
    except (_Stopped, IndexError, ValueError, EOFError, OSError, ImportError, zlib.error, lzma.LZMAError):
        pass  # what was found so far counts; whether the file can be read is for its loader to say
    return named


PREFIXES: dict[bytes, Callable[[Any], Any]] = {
    b"\x1f\x8b": lambda stream: gzip.GzipFile(fileobj=stream),
    b"BZh": bz2.BZ2File,
    b"\xfd7zXZ": lzma.LZMAFile,
    b"\x5d\x00": lzma.LZMAFile,
    b"\x78": lambda stream: io.BufferedReader(_Inflated(stream)),
    b"\x04\x22\x4d\x18": _lz4,
}
"""How a compressed file begins, and what reads it."""


class _Walk:
    """One pickle of a file. `inner`: it is one that joblib wrote for an array of objects."""

    def __init__(self, stream: IO[bytes], named: Named, deadline: float, inner: bool = False) -> None:
        self._stream = stream
        self._named = named
        self._deadline = deadline
        self._inner = inner
        self._stack: list[Any] = []
        self._below: list[list[Any]] = []
        self._memo: dict[int, Any] = {}
        self._memoized = 0
        self._opcodes: dict[int, Callable[[], None]] = {ord(code): self._bound(how) for code, how in HOW.items()}

    def run(self) -> None:
        """Walk to the STOP opcode.

        Raises:
            _Stopped, IndexError, ValueError: the file is no whole pickle, or goes beyond a limit.
        """
        read, opcodes = self._stream.read, self._opcodes
        while True:
            if time.monotonic() > self._deadline or len(self._stack) > MAX_STACK or len(self._below) > MAX_MARKS:
                raise _Stopped
            for _ in range(OPCODES_BETWEEN_CHECKS):
                code = read(1)
                if code == b".":
                    return
                opcode = opcodes.get(code[0]) if code else None
                if opcode is None:
                    raise _Stopped
                opcode()

    def _bound(self, how: tuple[Any, ...]) -> Callable[[], None]:
        method, *arguments = how
        return lambda: method(self, *arguments)

    # Arguments of opcodes

    def _bytes(self, count: int) -> bytes:
        content = self._stream.read(count)
        if len(content) != count:
            raise _Stopped
        return content

    def _skip(self, count: int) -> None:
        while count > 0:
            content = self._stream.read(min(count, CHUNK_BYTES))
            if not content:
                raise _Stopped
            count -= len(content)

    def _number(self, size_bytes: int) -> int:
        return int.from_bytes(self._bytes(size_bytes), "little")

    def _line(self) -> str | _Opaque:
        line = self._stream.readline(MAX_TEXT_BYTES)
        if line.endswith(b"\n"):
            return line[:-1].decode("utf-8", "replace")
        while line and not line.endswith(b"\n"):
            line = self._stream.readline(CHUNK_BYTES)
            if time.monotonic() > self._deadline:
                raise _Stopped
        if not line:
            raise _Stopped
        return OPAQUE

    # Opcodes

    def _constant(self, size_bytes: int) -> None:
        self._skip(size_bytes)
        self._stack.append(OPAQUE)

    def _small_number(self, size_bytes: int) -> None:
        self._stack.append(self._number(size_bytes))

    def _long_number(self, length_bytes: int) -> None:
        length = self._number(length_bytes)
        if length <= 16:
            self._stack.append(self._number(length))
        else:
            self._skip(length)
            self._stack.append(OPAQUE)

    def _text(self, length_bytes: int) -> None:
        length = self._number(length_bytes)
        if length <= MAX_TEXT_BYTES:
            self._stack.append(self._bytes(length).decode("utf-8", "replace"))
        else:
            self._skip(length)
            self._stack.append(OPAQUE)

    def _binary(self, length_bytes: int) -> None:
        self._skip(self._number(length_bytes))
        self._stack.append(OPAQUE)

    def _text_line(self) -> None:
        line = self._line()
        self._stack.append(line.strip("'\"") if isinstance(line, str) else line)

    def _number_line(self) -> None:
        line = self._line()
        digits = line.rstrip("L") if isinstance(line, str) else ""
        self._stack.append(int(digits) if re.fullmatch(r"-?\d{1,18}", digits) else OPAQUE)

    def _mark(self) -> None:
        self._below.append(self._stack)
        self._stack = []

    def _to_mark(self) -> list[Any]:
        above, self._stack = self._stack, self._below.pop()
        return above

    def _pop(self) -> None:
        if self._stack:
            self._stack.pop()
        else:
            self._to_mark()

    def _drop_to_mark(self) -> None:
        self._to_mark()

    def _duplicate(self) -> None:
        self._stack.append(self._stack[-1])

    def _replace(self, count: int) -> None:
        """Puts something that does not matter in the place of the topmost values."""
        if len(self._stack) < count:
            raise _Stopped
        del self._stack[len(self._stack) - count :]
        self._stack.append(OPAQUE)

    def _gather(self) -> None:
        """A list or a set of everything since the mark."""
        self._to_mark()
        self._stack.append(OPAQUE)

    def _append(self) -> None:
        self._stack.pop()

    def _tuple(self, count: int) -> None:
        values = self._stack[-count:] if count else []
        if len(values) != count:
            raise _Stopped
        del self._stack[len(self._stack) - count :]
        self._push_tuple(values)

    def _tuple_to_mark(self) -> None:
        self._push_tuple(self._to_mark())

    def _push_tuple(self, values: list[Any]) -> None:
        # Of tuples in tuples nothing is needed: kept, they would grow without end.
        flat = tuple(OPAQUE if isinstance(value, tuple | dict) else value for value in values[:16])
        self._stack.append(flat if len(values) <= 16 else OPAQUE)

    def _empty_dict(self) -> None:
        self._stack.append({})

    def _dict_to_mark(self) -> None:
        pairs = self._to_mark()
        self._stack.append({})
        self._set_all(pairs)

    def _set_one(self) -> None:
        value, key = self._stack.pop(), self._stack.pop()
        self._set_all([key, value])

    def _set_to_mark(self) -> None:
        self._set_all(self._to_mark())

    def _set_all(self, pairs: list[Any]) -> None:
        target = self._stack[-1]
        for key, value in zip(pairs[::2], pairs[1::2], strict=True):
            if key == VERSION_KEY and isinstance(value, str):
                self._named.note_version(value)
            elif isinstance(target, dict) and isinstance(key, str) and key in WRAPPER_KEYS:
                target[key] = value

    def _put(self, size_bytes: int) -> None:
        self._keep(self._number(size_bytes))

    def _put_line(self) -> None:
        self._keep(int(str(self._line())))

    def _memoize(self) -> None:
        self._keep(self._memoized)

    def _keep(self, place: int) -> None:
        value = self._stack[-1]
        self._memoized += 1
        if value is OPAQUE:
            self._memo.pop(place, None)
        elif len(self._memo) < MAX_KEPT or value == VERSION_KEY:
            self._memo[place] = value

    def _get(self, size_bytes: int) -> None:
        self._stack.append(self._memo.get(self._number(size_bytes), OPAQUE))

    def _get_line(self) -> None:
        self._stack.append(self._memo.get(int(str(self._line())), OPAQUE))

    def _global(self) -> None:
        module, name = self._line(), self._line()
        self._stack.append(self._found(module, name))

    def _stack_global(self) -> None:
        name, module = self._stack.pop(), self._stack.pop()
        self._stack.append(self._found(module, name))

    def _found(self, module: Any, name: Any) -> Any:
        if not isinstance(module, str) or not isinstance(name, str):
            return OPAQUE
        if len(self._named.modules) < MAX_MODULES:
            self._named.modules.add(module)
        return _Global(module, name)

    def _old_instance(self) -> None:
        self._found(self._line(), self._line())
        self._gather()

    def _new(self, arguments: int) -> None:
        """An instance: of what a class and `arguments` values above it give."""
        values = self._stack[-arguments:]
        del self._stack[len(self._stack) - arguments :]
        made_by = self._stack.pop()
        first = values[0]
        if isinstance(made_by, _Global) and made_by.name == "_reconstructor" and isinstance(first, tuple) and first:
            made_by = first[0]
        if isinstance(made_by, _Global) and made_by.name == WRAPPER:
            self._stack.append(_Wrapper())
        elif made_by == _Global("numpy", "dtype") and isinstance(first, tuple) and first and isinstance(first[0], str):
            self._stack.append(_Dtype(first[0]))
        else:
            self._stack.append(OPAQUE)

    def _build(self) -> None:
        state, target = self._stack.pop(), self._stack[-1]
        if isinstance(target, _Dtype) and isinstance(state, tuple) and len(state) >= 8:
            target.itemsize = state[5] if isinstance(state[5], int) and state[5] < 2**31 else -1
            target.flags = state[7] if isinstance(state[7], int) else 0
        elif isinstance(target, _Wrapper) and isinstance(state, dict) and not self._inner:
            self._stack[-1] = OPAQUE
            self._pass_array(state)

    def _pass_array(self, state: dict[str, Any]) -> None:
        """Passes over the array that joblib wrote after its placeholder."""
        shape, dtype, alignment = (state.get(key) for key in WRAPPER_KEYS)
        if not isinstance(dtype, _Dtype) or not isinstance(shape, tuple) or not all(map(_is_length, shape)):
            raise _Stopped
        if dtype.has_objects:
            _Walk(self._stream, self._named, self._deadline, inner=True).run()
            return
        if isinstance(alignment, int):
            self._skip(self._number(1))
        self._skip(math.prod(shape) * dtype.itemsize_bytes)


def _is_length(size: object) -> bool:
    return isinstance(size, int) and size >= 0


HOW: dict[str, tuple[Any, ...]] = {
    "\x80": (_Walk._skip, 1),
    "\x95": (_Walk._skip, 8),
    **dict.fromkeys("N]\x88\x89\x8f\x97", (_Walk._constant, 0)),
    ")": (_Walk._tuple, 0),
    "G": (_Walk._constant, 8),
    "\x82": (_Walk._constant, 1),
    "\x83": (_Walk._constant, 2),
    "\x84": (_Walk._constant, 4),
    "K": (_Walk._small_number, 1),
    "M": (_Walk._small_number, 2),
    "J": (_Walk._small_number, 4),
    "\x8a": (_Walk._long_number, 1),
    "\x8b": (_Walk._long_number, 4),
    "\x8c": (_Walk._text, 1),
    "X": (_Walk._text, 4),
    "\x8d": (_Walk._text, 8),
    "U": (_Walk._text, 1),
    "T": (_Walk._text, 4),
    "C": (_Walk._binary, 1),
    "B": (_Walk._binary, 4),
    "\x8e": (_Walk._binary, 8),
    "\x96": (_Walk._binary, 8),
    "S": (_Walk._text_line,),
    "V": (_Walk._text_line,),
    "P": (_Walk._text_line,),
    "F": (_Walk._number_line,),
    "I": (_Walk._number_line,),
    "L": (_Walk._number_line,),
    "(": (_Walk._mark,),
    "0": (_Walk._pop,),
    "1": (_Walk._drop_to_mark,),
    "2": (_Walk._duplicate,),
    "Q": (_Walk._replace, 1),
    "\x98": (_Walk._replace, 1),
    "a": (_Walk._append,),
    "e": (_Walk._drop_to_mark,),
    "\x90": (_Walk._drop_to_mark,),
    "l": (_Walk._gather,),
    "o": (_Walk._gather,),
    "\x91": (_Walk._gather,),
    "t": (_Walk._tuple_to_mark,),
    "\x85": (_Walk._tuple, 1),
    "\x86": (_Walk._tuple, 2),
    "\x87": (_Walk._tuple, 3),
    "}": (_Walk._empty_dict,),
    "d": (_Walk._dict_to_mark,),
    "s": (_Walk._set_one,),
    "u": (_Walk._set_to_mark,),
    "p": (_Walk._put_line,),
    "q": (_Walk._put, 1),
    "r": (_Walk._put, 4),
    "\x94": (_Walk._memoize,),
    "g": (_Walk._get_line,),
    "h": (_Walk._get, 1),
    "j": (_Walk._get, 4),
    "c": (_Walk._global,),
    "\x93": (_Walk._stack_global,),
    "i": (_Walk._old_instance,),
    "R": (_Walk._new, 1),
    "\x81": (_Walk._new, 1),
    "\x92": (_Walk._new, 2),
    "b": (_Walk._build,),
}
"""For each opcode the method that passes it, and that method's arguments: most often the bytes that follow."""


class _Inflated(io.RawIOBase):
    """Reads what zlib compressed, a part at a time."""

    def __init__(self, stream: IO[bytes]) -> None:
        self._stream = stream
        self._inflate = zlib.decompressobj()
        self._waiting = b""

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        while not self._inflate.eof:
            self._waiting = self._waiting or self._stream.read(CHUNK_BYTES // 16)
            if not self._waiting:
                break
            content = self._inflate.decompress(self._waiting, len(buffer))
            self._waiting = self._inflate.unconsumed_tail
            if content:
                buffer[: len(content)] = content
                return len(content)
        return 0
