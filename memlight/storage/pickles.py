"""Pickles read without running anything that is in them: plain values, containers, arrays and tensors alone.

Whatever a pickle names is looked up here and nowhere else, and every array is made anew by a constructor of ours from
its type, shape and bytes: a forged one costs an error. Names that are not listed are refused, not imported; where a
reader asks for it, objects of classes that are not listed are left out instead, and still nothing of them is run.
"""

import argparse
import collections
import io
import pickle
import re
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any, BinaryIO, ClassVar

import numpy as np
from numpy.typing import NDArray

from memlight.storage.strangers import Maker, Refused, Skipped, Stranger, is_refused
from memlight.storage.trees import require_tree

_KEY_PARTS = 1000
"""Values in a tuple that is a key of a dictionary."""

_PLAIN_DTYPE = re.compile(r"[<>=|]?(?:[?bBhHiIlLqQefdFD]|[biufcSU]\d{1,6})")

_LINE = 1 << 20
"""Characters of a line in a pickle of the old text form."""


MALFORMED = (
    *(pickle.UnpicklingError, EOFError, ValueError, TypeError, KeyError, IndexError, AttributeError, AssertionError),
    *(OverflowError, MemoryError, RecursionError, RuntimeError),
)
"""Everything that a damaged pickle makes `PlainUnpickler` raise."""


class PlainUnpickler(pickle._Unpickler):
    """Reads one pickle; Python's readable form of it, each step of which can be refused.

    Args:
        file: where it begins.
        size: bytes that are left in the file; what claims to be longer is refused before room is made for it.
        more: further names that it may use, and what they are.
        outside: gives what the pickle refers to and does not hold; None where there is nothing of that kind.
        skip: leave out objects of classes that are not read, see `Skipped`, rather than refuse the file.
    """

    dispatch: ClassVar[dict[int, Callable[[Any], None]]] = {**pickle._Unpickler.dispatch}
    read: Callable[[int], bytes]
    append: Callable[[Any], None]
    pop_mark: Callable[[], list[Any]]
    stack: list[Any]

    def __init__(
        self,
        file: BinaryIO,
        size: int,
        more: Mapping[tuple[str, str], Any] | None = None,
        outside: Callable[[Any], Any] | None = None,
        *,
        skip: bool = False,
    ) -> None:
        super().__init__(_Limited(file, size), encoding="latin1")
        self._size = size
        self._known = {**_KNOWN, **(_SKIPPING if skip else {}), **(more or {})}
        self._outside = outside
        self._skip = skip

    def persistent_load(self, key: Any) -> Any:
        """What lies outside of the pickle."""
        if self._outside is None:
            raise pickle.UnpicklingError("names something outside of it")
        return self._outside(key)

    def find_class(self, module: str, name: str) -> Any:
        """What a name stands for; raises `Refused`."""
        found = self._known.get((module, name))
        if found is not None:
            return found
        if not self._skip or is_refused(module, name):
            raise Refused(f"{module}.{name}")
        return Stranger(f"{module}.{name}")

    def get_extension(self, code: int) -> None:
        """Refuse what the process registered under a number."""
        raise Refused(f"extension {code}")

    def load_reduce(self) -> None:
        """Call a constructor of ours."""
        args = self.stack.pop()
        if isinstance(self.stack[-1], Skipped):  # what comes of something that was left out is left out too
            self.stack[-1] = Skipped(self.stack[-1].name)
            return
        if not isinstance(self.stack[-1], Maker) or not isinstance(args, tuple):
            raise pickle.UnpicklingError(f"calls a {type(self.stack[-1]).__name__}")
        self.stack[-1] = self.stack[-1](*args)

    dispatch[pickle.REDUCE[0]] = load_reduce

    def load_newobj(self) -> None:
        """Objects are made as by a call."""
        self.load_reduce()

    dispatch[pickle.NEWOBJ[0]] = load_newobj

    def load_newobj_ex(self) -> None:
        """Objects whose constructor takes named arguments: none of ours does."""
        self.stack.pop()
        if not isinstance(self.stack[-2], Stranger):
            raise pickle.UnpicklingError("makes an object with named arguments")
        self.load_reduce()

    dispatch[pickle.NEWOBJ_EX[0]] = load_newobj_ex

    def _instantiate(self, klass: Any, args: Any) -> None:
        if not isinstance(klass, Maker):
            raise pickle.UnpicklingError(f"calls a {type(klass).__name__}")
        self.append(klass(*args))

    def load_build(self) -> None:
        """Give an object its state: arrays and their types, options, what dictionaries carry beside their entries."""
        state = self.stack.pop()
        target = self.stack[-1]
        if isinstance(target, Skipped):
            target.is_module = isinstance(state, dict) and {"_parameters", "_modules"} <= state.keys()
        elif isinstance(target, _Dtype):
            target.build(state)
        elif type(target) is np.ndarray:
            if isinstance(state, tuple) and any(isinstance(part, Skipped) for part in state):
                self.stack[-1] = Skipped("numpy.ndarray")  # of objects, dates or records
            else:
                _fill(target, state)
        elif isinstance(target, argparse.Namespace | collections.OrderedDict) and isinstance(state, dict):
            vars(target).update({str(name): value for name, value in state.items()})
        else:
            raise pickle.UnpicklingError(f"gives a {type(target).__name__} a state")

    dispatch[pickle.BUILD[0]] = load_build

    def load_setitem(self) -> None:
        """One entry of a dictionary."""
        value, key = self.stack.pop(), self.stack.pop()
        self._set(self.stack[-1], key, value)

    dispatch[pickle.SETITEM[0]] = load_setitem

    def load_setitems(self) -> None:
        """Several entries of a dictionary."""
        items = self.pop_mark()
        for key, value in zip(items[::2], items[1::2], strict=True):
            self._set(self.stack[-1], key, value)

    dispatch[pickle.SETITEMS[0]] = load_setitems

    def load_dict(self) -> None:
        """A whole dictionary."""
        items = self.pop_mark()
        found: dict[Any, Any] = {}
        self.append(found)
        for key, value in zip(items[::2], items[1::2], strict=True):
            self._set(found, key, value)

    dispatch[pickle.DICT[0]] = load_dict

    def _set(self, target: Any, key: Any, value: Any) -> None:
        if not isinstance(target, dict):
            raise pickle.UnpicklingError(f"sets an item of a {type(target).__name__}")
        target[_key(key)] = value

    def load_append(self) -> None:
        """One entry of a list."""
        value = self.stack.pop()
        self._extend(self.stack[-1], [value])

    dispatch[pickle.APPEND[0]] = load_append

    def load_appends(self) -> None:
        """Several entries of a list."""
        items = self.pop_mark()
        self._extend(self.stack[-1], items)

    dispatch[pickle.APPENDS[0]] = load_appends

    def _extend(self, target: Any, values: list[Any]) -> None:
        if isinstance(target, Skipped):
            return
        if type(target) is not list:
            raise pickle.UnpicklingError(f"appends to a {type(target).__name__}")
        target.extend(values)

    def load_additems(self) -> None:
        """Several entries of a set."""
        items = self.pop_mark()
        if isinstance(self.stack[-1], Skipped):
            return
        if type(self.stack[-1]) is not set:
            raise pickle.UnpicklingError(f"adds to a {type(self.stack[-1]).__name__}")
        self.stack[-1].update(map(_key, items))

    dispatch[pickle.ADDITEMS[0]] = load_additems

    def load_frozenset(self) -> None:
        """A whole frozen set."""
        items = self.pop_mark()
        self.append(frozenset(map(_key, items)))

    dispatch[pickle.FROZENSET[0]] = load_frozenset

    def load_bytearray8(self) -> None:
        """Bytes that can be changed: no room is made for more than the file has."""
        (size,) = np.frombuffer(self.read(8), dtype="<u8").tolist()
        if size > self._size:
            raise EOFError("the file ends before")
        self.append(bytearray(self.read(size)))

    dispatch[pickle.BYTEARRAY8[0]] = load_bytearray8


class _Limited:
    """A file from which no more is asked for than there is."""

    def __init__(self, file: BinaryIO, size: int) -> None:
        self._file, self._left = file, size

    def read(self, size: int) -> bytes:
        if not 0 <= size <= self._left:
            raise EOFError("the file ends before")
        self._left -= size
        return self._file.read(size)

    def readline(self) -> bytes:
        line = self._file.readline(max(0, min(self._left, _LINE)))
        self._left -= len(line)
        return line


def _key(key: Any) -> Any:
    """A key of a dictionary or member of a set: hashing and comparing it takes no time to speak of."""
    left, stack = _KEY_PARTS, [key]
    while stack:
        item = stack.pop()
        left -= 1
        if left < 0:
            raise pickle.UnpicklingError("a key of a dictionary is too large")
        if isinstance(item, tuple):
            stack.extend(item)
    return key


class _Dtype:
    """The type of an array while it is read."""

    def __init__(self, code: object, align: object = False, copy: object = True) -> None:
        if not isinstance(code, str) or not _PLAIN_DTYPE.fullmatch(code):
            raise pickle.UnpicklingError(
                f"an array of type {code!r}; only plain numbers, truth values and words are read"
            )
        self.dtype = np.dtype(code)

    def build(self, state: Any) -> None:
        """The order of bytes is all that a plain type has of its own."""
        if not isinstance(state, tuple) or len(state) < 5 or any(part is not None for part in state[2:5]):
            raise pickle.UnpicklingError("an array of records; only plain numbers are read")
        if state[1] not in ("<", ">", "|", "="):
            raise pickle.UnpicklingError("an array of an unknown order of bytes")
        self.dtype = self.dtype.newbyteorder(state[1])


def _array(dtype: object, shape: object, data: object, order: str) -> NDArray[Any]:
    if not isinstance(dtype, _Dtype) or not isinstance(data, bytes | bytearray | str):
        raise pickle.UnpicklingError("an array without a plain type or without bytes")
    raw = data.encode("latin1") if isinstance(data, str) else bytes(data)
    sides = (shape,) if isinstance(shape, int) else shape
    if not isinstance(sides, tuple) or not all(type(side) is int and side >= 0 for side in sides) or len(sides) > 32:
        raise pickle.UnpicklingError(f"an array of shape {shape!r}")
    needed = dtype.dtype.itemsize
    for side in sides:
        needed *= side
    if needed != len(raw):
        raise pickle.UnpicklingError(f"an array of {needed} bytes in {len(raw)}")
    if needed == 0:
        return np.zeros(sides, dtype.dtype)
    return np.frombuffer(raw, dtype.dtype).reshape(sides, order=order).copy(order=order)  # type: ignore[call-overload,no-any-return]


def _fill(array: NDArray[Any], state: Any) -> None:
    """Give an array that `_reconstruct` made its shape, type and numbers."""
    if not isinstance(state, tuple) or len(state) != 5:
        raise pickle.UnpicklingError("an array without its numbers")
    _, shape, dtype, fortran, data = state
    made = _array(dtype, shape, data, "F" if fortran else "C")
    state = (1, made.shape, made.dtype, bool(fortran), made.tobytes("F" if fortran else "C"))
    array.__setstate__(state)


def _reconstruct(kind: object, shape: object, code: object) -> NDArray[Any]:
    if kind is not _NDARRAY:
        raise pickle.UnpicklingError("an array of a class of its own")
    return np.empty((0,), np.int8)


def _from_buffer(data: object, dtype: object, shape: object, order: object, axes: Any = None) -> NDArray[Any]:
    made = _array(dtype, shape, data, "F" if order == "F" else "C")
    return made if axes is None else made.transpose(axes)


def _scalar(dtype: object, data: object = b"") -> Any:
    return _array(dtype, (), data, "C")[()]


def _encode(text: object, encoding: object) -> bytes:
    """How old pickles spell bytes."""
    if not isinstance(text, str) or encoding != "latin1":
        raise pickle.UnpicklingError(f"encodes bytes as {encoding}")
    return text.encode("latin1")


def _never(*args: object) -> Any:
    raise pickle.UnpicklingError("calls what is only named in such files")


def _container(kind: Callable[[Any], Any], *args: Any) -> Any:
    """A container from a list, or an empty one."""
    if len(args) > 1 or not all(isinstance(values, list | tuple) for values in args):
        raise pickle.UnpicklingError("makes a container of something else")
    return kind([_key(value) for value in args[0]] if args else [])


def _mapping(kind: Callable[..., Any], *args: Any) -> Any:
    """A dictionary from pairs or from another one, or an empty one."""
    made = kind()
    pairs = args[0].items() if len(args) == 1 and isinstance(args[0], dict) else args[0] if args else ()
    for key, value in pairs:
        made[_key(key)] = value
    return made


def _default(*args: Any) -> Any:
    """A dictionary with a default, which is not kept: nothing that is read here is asked for what it does not hold."""
    return collections.defaultdict(None)


def _byte_array(*args: Any) -> bytearray:
    if len(args) == 2 and args[1] == "latin-1":
        return bytearray(_encode(args[0], "latin1"))
    if len(args) > 1 or not all(isinstance(data, bytes) for data in args):
        raise pickle.UnpicklingError("makes bytes of something else")
    return bytearray(*args)


def _number(kind: type, *args: Any) -> Any:
    if len(args) > 2 or not all(isinstance(part, int | float) for part in args):
        raise pickle.UnpicklingError("makes a number of something else")
    return kind(*args)


def _namespace(*args: Any) -> argparse.Namespace:
    if args:
        raise pickle.UnpicklingError("options with unnamed values")
    return argparse.Namespace()


def _reconstructor(kind: object, base: object, state: object) -> argparse.Namespace:
    """How pickles of the first protocols make an object."""
    if not isinstance(kind, Maker) or kind._make is not _namespace or state is not None:
        raise pickle.UnpicklingError("makes an object of an unknown kind")
    return argparse.Namespace()


_NDARRAY = Maker(_never)


def _of_builtins() -> dict[str, Maker]:
    containers = {kind.__name__: Maker(partial(_container, kind)) for kind in (list, tuple, set, frozenset)}
    numbers = {kind.__name__: Maker(partial(_number, kind)) for kind in (int, float, bool, complex)}
    never = {name: Maker(_never) for name in ("str", "object")}
    return {
        **containers,
        **numbers,
        **never,
        "dict": Maker(partial(_mapping, dict)),
        "bytearray": Maker(_byte_array),
        "long": numbers["int"],
    }


_KNOWN: dict[tuple[str, str], Any] = {
    **{(module, name): maker for module in ("builtins", "__builtin__") for name, maker in _of_builtins().items()},
    ("collections", "OrderedDict"): Maker(lambda *args: _mapping(collections.OrderedDict, *args)),
    ("collections", "Counter"): Maker(lambda *args: _mapping(collections.Counter, *args)),
    ("collections", "defaultdict"): Maker(_default),
    ("argparse", "Namespace"): Maker(_namespace),
    **{(module, "_reconstructor"): Maker(_reconstructor) for module in ("copyreg", "copy_reg")},
    ("_codecs", "encode"): Maker(_encode),
    ("numpy", "ndarray"): _NDARRAY,
    ("numpy", "dtype"): Maker(_Dtype),
    **{(f"numpy.{core}.multiarray", "_reconstruct"): Maker(_reconstruct) for core in ("core", "_core")},
    **{(f"numpy.{core}.multiarray", "scalar"): Maker(_scalar) for core in ("core", "_core")},
    **{(f"numpy.{core}.numeric", "_frombuffer"): Maker(_from_buffer) for core in ("core", "_core")},
}


def _dtype_or_skipped(code: object, *rest: object) -> Any:
    """The type of an array; of one that is not made of plain numbers, a sign that the array is left out."""
    plain = isinstance(code, str) and _PLAIN_DTYPE.fullmatch(code)
    return _Dtype(code, *rest) if plain else Skipped("numpy.dtype")


def _plain_or_skipped(make: Callable[..., Any], *args: Any) -> Any:
    return Skipped("numpy.ndarray") if any(isinstance(one, Skipped) for one in args) else make(*args)


def _object_or_skipped(kind: object, base: object, state: object) -> Any:
    return kind() if isinstance(kind, Stranger) else _reconstructor(kind, base, state)


_SKIPPING: dict[tuple[str, str], Any] = {
    **{(module, "object"): Stranger("builtins.object") for module in ("builtins", "__builtin__")},
    ("numpy", "dtype"): Maker(_dtype_or_skipped),
    **{(module, "_reconstructor"): Maker(_object_or_skipped) for module in ("copyreg", "copy_reg")},
    **{
        (f"numpy.{core}.multiarray", "scalar"): Maker(partial(_plain_or_skipped, _scalar)) for core in ("core", "_core")
    },
    **{
        (f"numpy.{core}.numeric", "_frombuffer"): Maker(partial(_plain_or_skipped, _from_buffer))
        for core in ("core", "_core")
    },
}
"""What of `_KNOWN` is replaced where objects that are not read are left out."""


def load_pickle(data: bytes) -> Any:
    """One pickle without tensors.

    Raises:
        Refused: it names something that is not read.
        ValueError and the others of ``MALFORMED``: it is damaged.
    """
    value = PlainUnpickler(io.BytesIO(data), len(data)).load()
    require_tree(value)
    return value


class _ObjectType:
    """The type of an array of Python's objects while it is read."""


class _WordArray:
    """An array of Python's objects while it is read."""

    def __init__(self) -> None:
        self.values: list[Any] = []


def _any_type(code: object, *args: object) -> _Dtype | _ObjectType:
    return _ObjectType() if code in ("O", "O4", "O8") else _Dtype(code, *args)


class _WordsUnpickler(PlainUnpickler):
    """Reads one array of Python's objects as NumPy pickles it."""

    dispatch: ClassVar[dict[int, Callable[[Any], None]]] = {**PlainUnpickler.dispatch}

    def load_build(self) -> None:
        """An array of objects gets the list of them; of its type all is known."""
        target = self.stack[-2]
        if isinstance(target, _ObjectType):
            self.stack.pop()
        elif isinstance(target, _WordArray):
            state = self.stack.pop()
            if not isinstance(state, tuple) or len(state) != 5 or type(state[4]) is not list:
                raise pickle.UnpicklingError("an array without its words")
            target.values = state[4]
        else:
            super().load_build()

    dispatch[pickle.BUILD[0]] = load_build


_WORD_ARRAYS: dict[tuple[str, str], Any] = {
    ("numpy", "dtype"): Maker(_any_type),
    **{(f"numpy.{core}.multiarray", "_reconstruct"): Maker(lambda *args: _WordArray()) for core in ("core", "_core")},
}


def load_words(data: bytes) -> list[Any]:
    """The words of an array of Python's objects, as `numpy.save` pickles it.

    Returns:
        Plain values; whoever calls this looks whether they are words.

    Raises:
        Refused: it names something that is not read.
        ValueError and the others of ``MALFORMED``: it is damaged, or no such array.
    """
    value = _WordsUnpickler(io.BytesIO(data), len(data), _WORD_ARRAYS).load()
    if not isinstance(value, _WordArray):
        raise pickle.UnpicklingError(f"a {type(value).__name__}, and no array of words")
    require_tree(value.values)
    return value.values
