"""Pickles of authors: arrays, tensors and pairs are read out of them, and nothing in them is executed.

`pickletools.genops` takes a pickle apart without running it. The machine below follows the operations that plain data needs;
each of the few names that it may call stands for a function of ours. The first other operation or name is an error.
"""

from __future__ import annotations

import io
import math
import mmap
import pickletools
import re
import struct
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch

from unlearnable_bench.poisons.arrays import Contents, pick_arrays
from unlearnable_bench.poisons.store import first_line
from unlearnable_bench.registry import EntryError

OPERATIONS = 1 << 24  # of one file: 50,000 pairs of an array and a label have about a million
MARKS = 1 << 10  # lists and dictionaries that are open at once
KEPT = 1 << 22  # objects that a file may refer back to
WHOLE = 1 << 63  # whole numbers are below
NUMBERS = r"[<>=|]?(b1|[iu][1248]|f[248])"  # types of arrays: truth values and real numbers
DEPTH = 3  # of lists in lists, as poisons have them


class StrangePickleError(ValueError):
    """A pickle holds something else than plain data; the text says what."""


@dataclass
class _Type:
    """A type of numpy's arrays, and the order of its bytes, which pickle says afterwards."""

    code: str

    def set_state(self, state: Any) -> None:
        match state:
            case (int(), "<" | ">" | "|" | "=" as order, None, None, None, int(), int(), int(), *_):
                self.code = order + self.code.lstrip("<>=|")
            case _:
                raise StrangePickleError("a type of array with fields or shapes of its own")

    @property
    def numpy(self) -> np.dtype[Any]:
        if not re.fullmatch(NUMBERS, self.code):
            raise StrangePickleError(f"an array of {self.code!r:.40}; expected real numbers")
        return np.dtype(self.code)


@dataclass
class _Array:
    """An array whose shape, type and bytes pickle says afterwards."""

    content: np.ndarray | None = None

    def set_state(self, state: Any) -> None:
        match state:
            case (int(), tuple() as shape, _Type() as kind, bool() | int() as columns, bytes() | bytearray() | str() as raw):
                whole = raw.encode("latin1") if isinstance(raw, str) else raw  # text is what Python 2 wrote
                self.content = _filled(whole, kind, shape, "F" if columns else "C")
            case (int(), tuple(), _Type(), bool() | int(), list()):
                raise StrangePickleError("an array of Python objects; expected real numbers")
            case _:
                raise StrangePickleError("an array without its bytes")


@dataclass(frozen=True)
class _Storage:
    """The values of a tensor in a row."""

    values: np.ndarray


def _filled(raw: bytes | bytearray, kind: _Type, shape: tuple[Any, ...], order: Any) -> np.ndarray:
    """An array over bytes of the file. StrangePickleError where these are not as many as the shape says."""
    if not all(isinstance(side, int) and side >= 0 for side in shape) or order not in ("C", "F"):
        raise StrangePickleError(f"an array of shape {shape!r:.60}")
    if math.prod(shape) * kind.numpy.itemsize != len(raw):
        raise StrangePickleError(f"an array of {kind.numpy} {shape!r:.60} in {len(raw):,} bytes")
    return np.frombuffer(raw, kind.numpy).reshape(shape, order=order)


# what a pickle may call: names, and what stands for them here


def _empty_array(_kind: Any, _shape: Any, _code: Any) -> _Array:
    return _Array()


def _named_type(code: Any, *_flags: Any) -> _Type:
    if not isinstance(code, str):
        raise StrangePickleError("a type of array without a name")
    return _Type(code)


def _of_buffer(raw: Any, kind: Any, shape: Any, order: Any) -> np.ndarray:
    if not (isinstance(raw, bytes | bytearray) and isinstance(kind, _Type) and isinstance(shape, tuple)):
        raise StrangePickleError("an array without its bytes")
    return _filled(raw, kind, shape, order)


def _number(kind: Any, raw: Any) -> Any:
    if not (isinstance(kind, _Type) and isinstance(raw, bytes)):
        raise StrangePickleError("a number without its bytes")
    return _filled(raw, kind, (), "C").item()


def _encoded(text: Any, code: Any) -> bytes:
    if not isinstance(text, str) or code != "latin1":
        raise StrangePickleError("bytes in another code than latin1")
    return text.encode("latin1")


def _no_hooks(*given: Any) -> dict[Any, Any]:
    if given:
        raise StrangePickleError("an ordered dictionary that is made of something")
    return {}


def _storage(raw: Any) -> _Storage:
    """The storage of a tensor: a file of torch inside the pickle, read with weights only."""
    if not isinstance(raw, bytes):
        raise StrangePickleError("a tensor without its bytes")
    try:
        found = torch.load(io.BytesIO(raw), map_location="cpu", weights_only=True)
    except Exception as error:  # of the bytes of strangers torch raises nearly everything
        raise StrangePickleError(f"a tensor that torch does not read with weights only ({type(error).__name__})") from None
    if not isinstance(found, torch.TypedStorage):
        raise StrangePickleError(f"a {type(found).__name__} in the place of a tensor's values")
    plain = torch.tensor([], dtype=found.dtype).set_(found._untyped_storage)
    return _Storage(plain.float().numpy() if plain.dtype in (torch.bfloat16, torch.float16) else plain.numpy())


def _tensor(storage: Any, offset: Any, size: Any, stride: Any, *_rest: Any) -> np.ndarray:
    sides = (*size, *stride) if isinstance(size, tuple) and isinstance(stride, tuple) else (None,)
    if not isinstance(storage, _Storage) or not all(isinstance(one, int) and one >= 0 for one in (offset, *sides)):
        raise StrangePickleError("a tensor without its values")
    steps = [int(step) for step in np.cumprod([1, *size[:0:-1]])[::-1]] if size else []
    needed = math.prod(size)
    if list(stride) != steps or offset + needed > len(storage.values):
        raise StrangePickleError(f"a tensor of shape {size!r:.60} with strides {stride!r:.60}; expected its values in a row")
    return storage.values[offset : offset + needed].reshape(size)


CALLS: dict[str, Callable[..., Any]] = {
    **dict.fromkeys(("numpy.core.multiarray _reconstruct", "numpy._core.multiarray _reconstruct"), _empty_array),
    **dict.fromkeys(("numpy.core.multiarray scalar", "numpy._core.multiarray scalar"), _number),
    **dict.fromkeys(("numpy.core.numeric _frombuffer", "numpy._core.numeric _frombuffer"), _of_buffer),
    "numpy dtype": _named_type,
    "_codecs encode": _encoded,
    "collections OrderedDict": _no_hooks,
    "torch.storage _load_from_bytes": _storage,
    "torch._utils _rebuild_tensor_v2": _tensor,
}
NAMED = {"numpy ndarray"}  # what a pickle names and hands to one of these


@dataclass(frozen=True)
class _Name:
    """A name of a module, which is never imported."""

    text: str


_MARK = object()


@dataclass
class _Machine:
    """The stack and the memory of a pickle."""

    stack: list[Any] = field(default_factory=list)
    memory: dict[int, Any] = field(default_factory=dict)
    marks: int = 0

    # what operations do, by their names in `pickletools`

    def push(self, value: Any) -> None:
        self.stack.append(value)

    def push_whole(self, value: Any) -> None:
        if abs(value) >= WHOLE:
            raise StrangePickleError(f"a whole number of {value.bit_length()} bits")
        self.push(value)

    def mark(self, _: Any) -> None:
        self.marks += 1
        if self.marks > MARKS:
            raise StrangePickleError(f"more than {MARKS} lists that are open at once")
        self.push(_MARK)

    def since_mark(self) -> list[Any]:
        """Take all above the last mark, and the mark."""
        for place in range(len(self.stack) - 1, -1, -1):
            if self.stack[place] is _MARK:
                found = self.stack[place + 1 :]
                del self.stack[place:]
                self.marks -= 1
                return found
        raise StrangePickleError("an end of a list that never began")

    def taken(self, count: int) -> list[Any]:
        """Take the last `count` values."""
        found = self.stack[-count:]
        if len(found) < count or any(one is _MARK for one in found):
            raise StrangePickleError("fewer values than an operation takes")
        del self.stack[-count:]
        return found

    def top(self, kind: type) -> Any:
        """The last value, which must be of a kind."""
        if not self.stack or not isinstance(self.stack[-1], kind):
            raise StrangePickleError(f"no {kind.__name__.strip('_').lower()} where one is filled")
        return self.stack[-1]

    def pop(self, _: Any) -> None:
        if not self.stack:
            raise StrangePickleError("fewer values than an operation takes")
        self.marks -= self.stack.pop() is _MARK

    def pop_mark(self, _: Any) -> None:
        self.since_mark()

    def dup(self, _: Any) -> None:
        self.push(self.top(object))

    def make_list(self, _: Any) -> None:
        self.push(self.since_mark())

    def make_tuple(self, _: Any) -> None:
        self.push(tuple(self.since_mark()))

    def make_dict(self, _: Any) -> None:
        items = self.since_mark()
        self.push({})
        self.fill(items)

    def append(self, _: Any) -> None:
        (value,) = self.taken(1)
        self.top(list).append(value)

    def appends(self, _: Any) -> None:
        values = self.since_mark()
        self.top(list).extend(values)

    def set_item(self, _: Any) -> None:
        self.fill(self.taken(2))

    def set_items(self, _: Any) -> None:
        self.fill(self.since_mark())

    def fill(self, items: Sequence[Any]) -> None:
        """Put keys and values into the dictionary on top."""
        found = self.top(dict)
        keys = items[::2]
        if len(items) % 2 or not all(isinstance(key, str | int) for key in keys):
            raise StrangePickleError("a dictionary whose keys are no words or numbers")
        found.update(zip(keys, items[1::2], strict=True))

    def put(self, number: int) -> None:
        if len(self.memory) >= KEPT:
            raise StrangePickleError(f"more than {KEPT:,} objects that are referred back to")
        self.memory[number] = self.top(object)

    def memoize(self, _: Any) -> None:
        self.put(len(self.memory))

    def get(self, number: int) -> None:
        if number not in self.memory:
            raise StrangePickleError(f"a reference to object {number}, which is not there")
        self.push(self.memory[number])

    def name(self, text: str) -> None:
        if text not in CALLS and text not in NAMED:
            raise StrangePickleError(f"{text.replace(' ', '.', 1)[:80]!r}")
        self.push(_Name(text))

    def stack_name(self, _: Any) -> None:
        module, attribute = self.taken(2)
        self.name(f"{module} {attribute}")

    def call(self, _: Any) -> None:
        named, given = self.taken(2)
        if not isinstance(named, _Name) or named.text not in CALLS or not isinstance(given, tuple):
            raise StrangePickleError("a call of something that is no name")
        try:
            self.push(CALLS[named.text](*given))
        except TypeError:
            raise StrangePickleError(f"{named.text.replace(' ', '.', 1)!r} with {len(given)} values") from None

    def build(self, _: Any) -> None:
        (state,) = self.taken(1)
        if isinstance(state, dict) and not state:
            return  # of an ordered dictionary
        one = self.top(object)
        if not isinstance(one, _Type | _Array):
            raise StrangePickleError(f"a state of a {type(one).__name__.strip('_').lower()}")
        one.set_state(state)


def _constant(value: Any) -> Callable[[_Machine, Any], None]:
    return lambda machine, _: machine.push(value)


def _small_tuple(count: int) -> Callable[[_Machine, Any], None]:
    return lambda machine, _: machine.push(tuple(machine.taken(count)))


def _nothing(_machine: _Machine, _: Any) -> None:
    """Say nothing that data needs."""


FOLLOWED: dict[str, Callable[[_Machine, Any], None]] = {
    **dict.fromkeys(("PROTO", "FRAME"), _nothing),
    "NONE": _constant(None),
    "NEWTRUE": _constant(True),
    "NEWFALSE": _constant(False),
    **dict.fromkeys(("INT", "BININT", "BININT1", "BININT2", "LONG", "LONG1", "LONG4"), _Machine.push_whole),
    **dict.fromkeys(("FLOAT", "BINFLOAT"), _Machine.push),
    **dict.fromkeys(("STRING", "BINSTRING", "SHORT_BINSTRING"), _Machine.push),
    **dict.fromkeys(("UNICODE", "BINUNICODE", "SHORT_BINUNICODE", "BINUNICODE8"), _Machine.push),
    **dict.fromkeys(("BINBYTES", "SHORT_BINBYTES", "BINBYTES8", "BYTEARRAY8"), _Machine.push),
    "EMPTY_LIST": lambda machine, _: machine.push([]),
    "EMPTY_DICT": lambda machine, _: machine.push({}),
    "EMPTY_TUPLE": _constant(()),
    "TUPLE1": _small_tuple(1),
    "TUPLE2": _small_tuple(2),
    "TUPLE3": _small_tuple(3),
    "MARK": _Machine.mark,
    "LIST": _Machine.make_list,
    "TUPLE": _Machine.make_tuple,
    "DICT": _Machine.make_dict,
    "APPEND": _Machine.append,
    "APPENDS": _Machine.appends,
    "SETITEM": _Machine.set_item,
    "SETITEMS": _Machine.set_items,
    "POP": _Machine.pop,
    "POP_MARK": _Machine.pop_mark,
    "DUP": _Machine.dup,
    **dict.fromkeys(("PUT", "BINPUT", "LONG_BINPUT"), _Machine.put),
    "MEMOIZE": _Machine.memoize,
    **dict.fromkeys(("GET", "BINGET", "LONG_BINGET"), _Machine.get),
    "GLOBAL": _Machine.name,
    "STACK_GLOBAL": _Machine.stack_name,
    "REDUCE": _Machine.call,
    "BUILD": _Machine.build,
}
"""What each operation does; any other is an error."""


def read_pickle(path: Path, limit: int) -> Contents:
    """Read the poison of a pickle whose arrays have at most `limit` bytes. EntryError."""
    content = read_pickled(path)
    contents = _contents(content, path, limit)
    if contents is None:
        raise EntryError(
            f"{path} holds a {type(content).__name__} that is no poison; expected an array, (images, labels), a list of arrays "
            "or of (image, label), or a dictionary of arrays"
        )
    return contents


def read_pickled(path: Path) -> Any:
    """Return the plain data of a pickle: lists, tuples and dictionaries of arrays and numbers. EntryError for anything else.

    Tensors come as arrays. What lies deeper than poisons have it is left as it was found.
    """
    try:
        with (
            warnings.catch_warnings(),
            path.open("rb") as file,
            mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as content,
        ):
            warnings.simplefilter("ignore")  # of `pickletools`, about escapes in the texts of a damaged file
            return _Unwrapping()(_followed(content), DEPTH)
    except StrangePickleError as error:
        text = "is not read, since it holds more than arrays, numbers, lists and dictionaries"
        raise EntryError(f"{path} {text}: {error}") from None
    except (ValueError, IndexError, OverflowError, MemoryError, OSError, struct.error) as error:  # what pickletools raises
        raise EntryError(f"{path} is not a whole pickle: {first_line(error)}") from None


def _followed(content: Any) -> Any:
    """Follow a pickle to its end and return what is then on the stack."""
    machine = _Machine()
    for count, (operation, argument, _) in enumerate(pickletools.genops(content)):
        if operation.name == "STOP":
            break
        if count >= OPERATIONS:
            raise StrangePickleError(f"more than {OPERATIONS:,} operations")
        if operation.name not in FOLLOWED:
            raise StrangePickleError(f"the operation {operation.name}")
        FOLLOWED[operation.name](machine, argument)
    (found,) = machine.taken(1)
    return found


@dataclass
class _Unwrapping:
    """Takes arrays out of their wraps. A list that is referred to often is looked at once, or a small file would be endless."""

    done: dict[tuple[int, int], Any] = field(default_factory=dict)

    def __call__(self, value: Any, depth: int) -> Any:
        if isinstance(value, _Array):
            if value.content is None:
                raise StrangePickleError("an array without its bytes")
            return value.content
        if isinstance(value, _Type | _Name | _Storage):
            raise StrangePickleError(f"a bare {type(value).__name__.strip('_').lower()}")
        if not depth or not isinstance(value, list | tuple | dict):
            return value
        key = id(value), depth
        if key not in self.done:
            self.done[key] = self._inside(value, depth - 1)
        return self.done[key]

    def _inside(self, value: Any, depth: int) -> Any:
        if isinstance(value, dict):
            return {name: self(one, depth) for name, one in value.items()}
        return type(value)(self(one, depth) for one in value)


def _contents(content: Any, path: Path, limit: int) -> Contents | None:
    match content:
        case dict():
            arrays = {str(name): value for name, value in content.items() if isinstance(value, np.ndarray | list)}
            return pick_arrays({name: _numbers(value) for name, value in arrays.items()}, content, "pickle", path)
        case np.ndarray():
            return Contents(content, "pickle")
        case [np.ndarray(ndim=4) as images, labels] if isinstance(_numbers(labels), np.ndarray):
            return Contents(images, "pickle", _numbers(labels))
        case [[np.ndarray(), _], *_] if all(_is_pair(one) for one in content):
            stacked = _stacked([image for image, _ in content], path, limit)
            labels = np.array([int(label) for _, label in content])
            return None if stacked is None else Contents(stacked, "pickle of pairs", labels)
        case [np.ndarray(), *_]:
            stacked = _stacked(content, path, limit)
            return None if stacked is None else Contents(stacked, "pickle of images")
    return None


def _is_pair(one: Any) -> bool:
    """Whether it is an image with its label."""
    match one:
        case [np.ndarray(), int()]:
            return True
        case [np.ndarray(), np.ndarray(size=1, dtype=kind)]:
            return kind.kind in "iu"
    return False


def _numbers(value: Any) -> Any:
    """A list of whole numbers as an array, all else as it is."""
    if isinstance(value, list) and value and all(type(number) is int for number in value):
        return np.array(value)
    return value


def _stacked(images: Sequence[Any], path: Path, limit: int) -> np.ndarray | None:
    """Put images of one shape and type into one array; None where they are not. EntryError where they are too large."""
    kinds = {(one.shape, one.dtype) if isinstance(one, np.ndarray) else None for one in images}
    if len(kinds) > 1:
        return None
    size = sum(one.nbytes for one in images)
    if size > limit:
        raise EntryError(f"{path} holds {size:,} bytes of arrays, more than these images can need ({limit:,})")
    return np.stack(images)
