"""Read the modules and the scikit-learn versions that a pickle names, without building or running anything in it.

The walk over the opcodes keeps a stack of placeholders. It imports and calls nothing that the file names, skips long
values, and ends at a limit of time, depth and memory.

Sources: `pickletools.opcodes`; `joblib/numpy_pickle.py`, which writes the bytes of an array between two opcodes.
"""

from __future__ import annotations

import lzma
import math
import pickletools
import re
import time
import zlib
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import IO, Any

from app.packing.pickle_arguments import ARGUMENTS, OPAQUE, ArgumentReader, Stopped, decompressed

MAX_SECONDS = 60.0
MAX_TUPLE = 16
MAX_STACK = 2_000_000
MAX_MARKS = 100_000
MAX_KEPT = 1_000_000
MAX_MODULES = 10_000
MAX_VERSIONS = 20
OPCODES_BETWEEN_CHECKS = 4096

VERSION_KEY = "_sklearn_version"
WRAPPER = "NumpyArrayWrapper"
WRAPPER_KEYS = ("shape", "dtype", "numpy_array_alignment_bytes")
OBJECTS_INSIDE = 0x01
"""The flag of a NumPy dtype whose elements refer to Python objects."""


@dataclass(slots=True)
class Named:
    """The modules that a pickle names, and the scikit-learn versions, that of the outermost object last.

    `whole` says whether the file was read to its end.
    """

    modules: set[str] = field(default_factory=set)
    versions: dict[str, None] = field(default_factory=dict)
    whole: bool = False

    def note_version(self, version: str) -> None:
        """Note the version of an object after those of its parts, as their states follow each other in a pickle."""
        self.versions.pop(version, None)
        if len(self.versions) < MAX_VERSIONS:
            self.versions[version] = None


def read(stream: IO[bytes]) -> Named:
    """Walk a pickle as `pickle.dump` or `joblib.dump` write it, compressed or not.

    If a file cannot be read to its end, return the names before that point.
    """
    named = Named()
    try:
        _Walk(decompressed(stream), named, time.monotonic() + MAX_SECONDS).run()
        named.whole = True
    except (Stopped, IndexError, ValueError, EOFError, OSError, ImportError, zlib.error, lzma.LZMAError):
        pass  # the loader of the file reports the error
    return named


# Placeholders on the stack


@dataclass(frozen=True, slots=True)
class _Global:
    """A class or function."""

    module: str
    name: str


@dataclass(slots=True)
class _Dtype:
    """A NumPy dtype: its code (`f8`, `O8`, `V64`), and the size and the flags in its state."""

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
            raise Stopped
        return int(code[2] or 1) * (4 if code[1] == "U" else 1)


class _Wrapper:
    """joblib's placeholder for an array whose bytes follow it in the file."""


class _Walk:
    """A walk through one pickle in a file.

    An `inner` pickle is one that joblib writes for an array of objects.
    """

    def __init__(self, stream: IO[bytes], named: Named, deadline: float, inner: bool = False) -> None:
        self._stream = stream
        self._named = named
        self._deadline = deadline
        self._arguments = ArgumentReader(stream, deadline)
        self._inner = inner
        self._stack: list[Any] = []
        self._below: list[list[Any]] = []
        self._memo: dict[int, Any] = {}
        self._memoized = 0
        self._opcodes = {ord(op.code): self._function_of(op) for op in pickletools.opcodes if op.name != "STOP"}

    def run(self) -> None:
        """Walk to the STOP opcode.

        Raises:
            Stopped, IndexError, ValueError: The file is not a complete pickle, or exceeds a limit.
        """
        read, opcodes = self._stream.read, self._opcodes
        while True:
            if time.monotonic() > self._deadline or len(self._stack) > MAX_STACK or len(self._below) > MAX_MARKS:
                raise Stopped
            for _ in range(OPCODES_BETWEEN_CHECKS):
                code = read(1)
                if code == b".":
                    return
                opcode = opcodes.get(code[0]) if code else None
                if opcode is None:
                    raise Stopped
                opcode()

    def _function_of(self, op: Any) -> Callable[[], None]:
        """Return a function that reads the argument of an opcode and applies its effect to the stack."""
        effect = EFFECTS.get(op.name)
        if op.arg is None:
            return (lambda: self._replace(op)) if effect is None else (lambda: effect(self, None))
        reader, size = ARGUMENTS[op.arg.name]
        arguments = self._arguments
        if effect is not None:
            return lambda: effect(self, reader(arguments, size))

        def pass_over() -> None:
            reader(arguments, size)
            self._replace(op)

        return pass_over

    def _replace(self, op: Any) -> None:
        """Replace the values that an opcode takes by placeholders for the values that it gives."""
        taken = op.stack_before
        if pickletools.markobject in taken:
            self._to_mark(None)
            taken = taken[: taken.index(pickletools.markobject)]
        self._take(len(taken))
        self._stack.extend([OPAQUE] * len(op.stack_after))

    def _take(self, count: int) -> list[Any]:
        start = len(self._stack) - count
        if start < 0:
            raise Stopped
        values = self._stack[start:]
        del self._stack[start:]
        return values

    def _push(self, value: Any) -> None:
        self._stack.append(value)

    def _push_decimal(self, line: Any) -> None:
        digits = line.rstrip("L") if isinstance(line, str) else ""
        self._stack.append(int(digits) if re.fullmatch(r"-?\d{1,18}", digits) else OPAQUE)

    def _mark(self, _: None) -> None:
        self._below.append(self._stack)
        self._stack = []

    def _to_mark(self, _: None) -> list[Any]:
        above, self._stack = self._stack, self._below.pop()
        return above

    def _pop(self, _: None) -> None:
        if self._stack:
            self._stack.pop()
        else:
            self._to_mark(None)

    def _tuple(self, values: list[Any]) -> None:
        # Tuples inside tuples are not needed. If they were kept, they could grow without limit.
        flat = tuple(OPAQUE if isinstance(value, tuple | dict) else value for value in values[:MAX_TUPLE])
        self._stack.append(flat if len(values) <= MAX_TUPLE else OPAQUE)

    def _dict_to_mark(self, _: None) -> None:
        pairs = self._to_mark(None)
        self._stack.append({})
        self._set(pairs)

    def _set(self, pairs: list[Any]) -> None:
        """Keep the needed entries of the dictionary on top of the stack, given keys and values by turns."""
        target = self._stack[-1]
        for key, value in zip(pairs[::2], pairs[1::2], strict=True):
            if key == VERSION_KEY and isinstance(value, str):
                self._named.note_version(value)
            elif isinstance(target, dict) and isinstance(key, str) and key in WRAPPER_KEYS:
                target[key] = value

    def _put(self, place: Any) -> None:
        """Keep the value on top of the stack in the memo; without a place, in the next one."""
        number, value = self._memoized if place is None else _place(place), self._stack[-1]
        self._memoized += 1
        if value is OPAQUE:
            self._memo.pop(number, None)
        elif len(self._memo) < MAX_KEPT or value == VERSION_KEY:
            self._memo[number] = value

    def _global(self, names: tuple[Any, Any]) -> None:
        """Push the class or function of this module and name, and note the module."""
        module, name = names
        if not isinstance(module, str) or not isinstance(name, str):
            self._stack.append(OPAQUE)
            return
        if len(self._named.modules) < MAX_MODULES:
            self._named.modules.add(module)
        self._stack.append(_Global(module, name))

    def _old_instance(self, names: tuple[Any, Any]) -> None:
        self._global(names)
        self._to_mark(None)
        self._stack.append(OPAQUE)

    def _new(self, arguments: int) -> None:
        """Push an instance made from a class or function and this many arguments above it."""
        made_by, first, *_ = self._take(1 + arguments)
        if isinstance(made_by, _Global) and made_by.name == "_reconstructor" and isinstance(first, tuple) and first:
            made_by = first[0]
        if isinstance(made_by, _Global) and made_by.name == WRAPPER:
            self._stack.append(_Wrapper())
        elif made_by == _Global("numpy", "dtype") and isinstance(first, tuple) and first and isinstance(first[0], str):
            self._stack.append(_Dtype(first[0]))
        else:
            self._stack.append(OPAQUE)

    def _build(self, _: None) -> None:
        """Apply a state to the instance below it."""
        state, target = self._stack.pop(), self._stack[-1]
        if isinstance(target, _Dtype) and isinstance(state, tuple) and len(state) >= 8:
            target.itemsize = state[5] if isinstance(state[5], int) and state[5] < 2**31 else -1
            target.flags = state[7] if isinstance(state[7], int) else 0
        elif isinstance(target, _Wrapper) and isinstance(state, dict) and not self._inner:
            self._stack[-1] = OPAQUE
            self._skip_array(state)

    def _skip_array(self, state: dict[str, Any]) -> None:
        """Skip the array that joblib wrote after its placeholder."""
        shape, dtype, alignment = (state.get(key) for key in WRAPPER_KEYS)
        if not isinstance(dtype, _Dtype) or not isinstance(shape, tuple):
            raise Stopped
        if not all(isinstance(size, int) and size >= 0 for size in shape):
            raise Stopped
        if dtype.has_objects:
            _Walk(self._stream, self._named, self._deadline, inner=True).run()
            return
        if isinstance(alignment, int):
            self._arguments.skip(self._arguments.number(1))
        self._arguments.skip(math.prod(shape) * dtype.itemsize_bytes)


def _place(argument: Any) -> int:
    """Return a place in the memo: a number, or a line with its digits."""
    return argument if isinstance(argument, int) else int(str(argument))


EFFECTS: dict[str, Callable[[_Walk, Any], Any]] = {
    **dict.fromkeys(("BININT", "BININT1", "BININT2", "LONG1", "LONG4"), _Walk._push),
    **dict.fromkeys(("SHORT_BINSTRING", "BINSTRING", "SHORT_BINUNICODE", "BINUNICODE", "BINUNICODE8"), _Walk._push),
    **dict.fromkeys(
        ("STRING", "UNICODE"), lambda walk, line: walk._push(line.strip("'\"") if isinstance(line, str) else line)
    ),
    **dict.fromkeys(("INT", "LONG"), _Walk._push_decimal),
    "MARK": _Walk._mark,
    "POP": _Walk._pop,
    "DUP": lambda walk, _: walk._push(walk._stack[-1]),
    "EMPTY_TUPLE": lambda walk, _: walk._tuple([]),
    "TUPLE1": lambda walk, _: walk._tuple(walk._take(1)),
    "TUPLE2": lambda walk, _: walk._tuple(walk._take(2)),
    "TUPLE3": lambda walk, _: walk._tuple(walk._take(3)),
    "TUPLE": lambda walk, _: walk._tuple(walk._to_mark(None)),
    "EMPTY_DICT": lambda walk, _: walk._push({}),
    "DICT": _Walk._dict_to_mark,
    "SETITEM": lambda walk, _: walk._set(walk._take(2)),
    "SETITEMS": lambda walk, _: walk._set(walk._to_mark(None)),
    **dict.fromkeys(("PUT", "BINPUT", "LONG_BINPUT", "MEMOIZE"), _Walk._put),
    **dict.fromkeys(
        ("GET", "BINGET", "LONG_BINGET"), lambda walk, place: walk._push(walk._memo.get(_place(place), OPAQUE))
    ),
    "GLOBAL": _Walk._global,
    "STACK_GLOBAL": lambda walk, _: walk._global(tuple(walk._take(2))),
    "INST": _Walk._old_instance,
    "REDUCE": lambda walk, _: walk._new(1),
    "NEWOBJ": lambda walk, _: walk._new(1),
    "NEWOBJ_EX": lambda walk, _: walk._new(2),
    "BUILD": _Walk._build,
}
"""The effects of opcodes whose values matter. All other opcodes replace what they take by placeholders."""
