"""Files of ``torch.save``, by a reader of our own: tensors, arrays and plain values, and nothing that is run.

The zip of today and the stream of before 1.6 are read, and bare pickles. Tensors of a zip are mapped, not copied.
Whatever claims to be larger than the file is refused before room is made for it.
"""

import io
import math
import os
import pickle
import struct
import zipfile
import zlib
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

from memlight.errors import UserError
from memlight.storage.opening import open_regular
from memlight.storage.pickles import MALFORMED, PlainUnpickler
from memlight.storage.strangers import Maker, Refused
from memlight.storage.trees import require_tree

if TYPE_CHECKING:
    import torch

_MAGIC, _PROTOCOL = 0x1950A86A20F9469CFC6C, 1001

_LOCAL_HEADER = struct.Struct("<4s22xHH")

_BLOCK = 1 << 24

_REPEATED = 1 << 24
"""Numbers of a tensor that repeats those of its storage, at most."""

_SMALL_RECORDS = ("version", "byteorder", ".format_version")

_STORAGES = {
    "DoubleStorage": "float64",
    "FloatStorage": "float32",
    "HalfStorage": "float16",
    "BFloat16Storage": "bfloat16",
    "LongStorage": "int64",
    "IntStorage": "int32",
    "ShortStorage": "int16",
    "CharStorage": "int8",
    "ByteStorage": "uint8",
    "BoolStorage": "bool",
    "ComplexFloatStorage": "complex64",
    "ComplexDoubleStorage": "complex128",
    "UntypedStorage": "uint8",
}

_DTYPES = (
    *("float64", "float32", "float16", "bfloat16", "float8_e4m3fn", "float8_e4m3fnuz", "float8_e5m2"),
    *("float8_e5m2fnuz", "float8_e8m0fnu", "int64", "int32", "int16", "int8", "uint64", "uint32", "uint16", "uint8"),
    *("bool", "complex32", "complex64", "complex128"),
)

_NOT_DENSE = {
    "_rebuild_sparse_tensor": "a sparse tensor",
    "_rebuild_sparse_csr_tensor": "a sparse tensor",
    "_rebuild_meta_tensor_no_storage": "a tensor without numbers (of the meta device)",
    "_rebuild_qtensor": "a quantised tensor",
    "_rebuild_nested_tensor": "a nested tensor",
    "_rebuild_device_tensor_from_numpy": "a tensor of a device that is not here",
    "_rebuild_device_tensor_from_cpu_tensor": "a tensor of a device that is not here",
    "_rebuild_wrapper_subclass": "a tensor of a class of its own",
}


class Unreadable(ValueError):
    """A file that is not one of ``torch.save``, is damaged, or claims what it does not hold; says which in words."""


def read_torch(path: Path, argument: str, ways_out: Sequence[str], *, skip: bool = False) -> Any:
    """Read such a file that the user named.

    Args:
        path: the file.
        argument: that named it.
        ways_out: what to do where it cannot be read.
        skip: as for `load_torch`.

    Raises:
        UserError: there is no such file, it names something that could run code, is damaged, or of another kind.
    """
    try:
        return load_torch(path, skip=skip)
    except OSError as error:
        raise UserError(argument, path, str(error)) from error
    except Refused as error:
        why = f"holds a {error.name}, and reading that could run code, so it is not read"
        raise UserError(argument, path, f"{why}; only tensors, arrays and plain values are", ways_out) from error
    except Unreadable as error:
        raise UserError(argument, path, str(error), ways_out) from error


def load_torch(path: Path, *, skip: bool = False) -> Any:
    """Read a file of ``torch.save``, or a pickle of plain values, arrays and tensors, on the CPU.

    Args:
        path: the file.
        skip: leave out objects of classes that are not read, see `memlight.storage.pickles.Skipped`, rather than
            refuse the file; what runs programs or touches files is refused all the same.

    Raises:
        OSError: there is no such file, or it may not be read.
        Refused: it names something that could run code.
        Unreadable: it is damaged, or of another kind.
    """
    with open_regular(path) as file:
        return _load(file, os.fstat(file.fileno()).st_size, path, skip)


def _load(file: BinaryIO, size: int, path: Path | None, skip: bool) -> Any:
    import torch

    def leaf(value: object) -> bool:
        return isinstance(value, torch.Size)

    try:
        start = file.read(4)
        file.seek(0)
        zipped = start[:2] == b"PK"
        value = _from_zip(file, size, path, skip) if zipped else _from_stream(file, size, path is None, skip)
    except (Refused, Unreadable):
        raise
    except (*MALFORMED, OSError, zipfile.BadZipFile, NotImplementedError, struct.error, zlib.error) as error:
        said = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise Unreadable(f"truncated, or not a file of torch.save ({said})") from error
    try:
        require_tree(value, leaf=leaf)
    except ValueError as error:
        raise Unreadable(str(error)) from error
    return value


def _from_zip(file: BinaryIO, size: int, path: Path | None, skip: bool) -> Any:
    records = _Records(file, size)
    if "byteorder" in records.names and records.read("byteorder") != b"little":
        raise Unreadable("written by a machine with another order of bytes")
    whole = _mapped(file, size, path)

    def storage(key: Any) -> _Storage:
        kind, name, count = _storage_key(key)
        begin, length = records.place(f"data/{name}")
        if count * kind.itemsize != length:
            raise Unreadable(f"a storage of {count * kind.itemsize} bytes in {length}: damaged")
        return _Storage(whole[begin : begin + length], kind.dtype)

    data = records.read("data.pkl")
    return PlainUnpickler(io.BytesIO(data), len(data), _names(path is None, skip), storage, skip=skip).load()


def _mapped(file: BinaryIO, size: int, path: Path | None) -> "torch.UntypedStorage":
    import torch

    if path is not None:
        mapped: Any = torch.UntypedStorage.from_file(str(path), False, size)
        return mapped  # type: ignore[no-any-return]
    return torch.frombuffer(bytearray(file.read()), dtype=torch.uint8).untyped_storage()


class _Records:
    """The entries of a zip of ``torch.save``, all of which lie in it as they are.

    Attributes:
        names: of the entries, without the folder that holds all of them.
    """

    def __init__(self, file: BinaryIO, size: int) -> None:
        self._file, self._size = file, size
        with zipfile.ZipFile(file) as archive:
            entries = archive.infolist()
        folder = entries[0].filename.partition("/")[0] + "/" if entries else ""
        self._entries = {entry.filename.removeprefix(folder): entry for entry in entries}
        self.names = self._entries.keys()
        if any(name.startswith("code/") for name in self.names):
            raise Unreadable("a TorchScript program, which is not run")
        if len(self._entries) < len(entries):
            raise Unreadable("two of its entries have one name: damaged")
        for name, entry in self._entries.items():
            if entry.compress_type != zipfile.ZIP_STORED or entry.file_size != entry.compress_size:
                raise Unreadable(
                    f"its entry {name} claims {entry.file_size} bytes and takes up {entry.compress_size}; torch.save "
                    "compresses nothing, so it is not unpacked: zip it again with `zip -0`, if you trust it"
                )
        small = [name for name in _SMALL_RECORDS if name in self._entries]
        self._checked = any(self._matches(name) for name in small) or not small
        self._known: dict[str, tuple[int, int]] = {}

    def place(self, name: str) -> tuple[int, int]:
        """Where an entry begins and how long it is; its checksum is compared where the file has checksums."""
        if name not in self._known:
            if name not in self._entries:
                raise Unreadable(f"has no entry {name}: truncated, or not a file of torch.save")
            if self._checked and not self._matches(name):
                raise Unreadable(f"its entry {name} is damaged (its checksum differs)")
            self._known[name] = self._position(name), self._entries[name].file_size
        return self._known[name]

    def read(self, name: str) -> bytes:
        """The bytes of an entry."""
        begin, length = self.place(name)
        self._file.seek(begin)
        return self._file.read(length)

    def _position(self, name: str) -> int:
        entry = self._entries[name]
        self._file.seek(entry.header_offset)
        signature, name_length, extra_length = _LOCAL_HEADER.unpack(self._file.read(_LOCAL_HEADER.size))
        begin = int(entry.header_offset + _LOCAL_HEADER.size + name_length + extra_length)
        if signature != b"PK\3\4" or begin + entry.file_size > self._size:
            raise Unreadable(f"its entry {name} lies outside of the file: truncated")
        return begin

    def _matches(self, name: str) -> bool:
        self._file.seek(self._position(name))
        left, crc = self._entries[name].file_size, 0
        while left and (block := self._file.read(min(left, _BLOCK))):
            crc, left = zlib.crc32(block, crc), left - len(block)
        return left == 0 and crc == self._entries[name].CRC


def _from_stream(file: BinaryIO, size: int, nested: bool, skip: bool) -> Any:
    """A pickle, or the pickles and storages that ``torch.save`` wrote one behind the other before its 1.6."""
    first = PlainUnpickler(file, size, _names(nested, skip), skip=skip).load()
    if not (isinstance(first, int) and first == _MAGIC):
        if nested:
            raise Unreadable("a storage that is not one of torch.save")
        return first
    import torch

    if PlainUnpickler(file, size).load() != _PROTOCOL:
        raise Unreadable("of an unknown version of torch.save")
    system = PlainUnpickler(file, size).load()
    if not isinstance(system, dict) or not system.get("little_endian", True):
        raise Unreadable("written by a machine with another order of bytes")
    storages: dict[str, tuple[torch.UntypedStorage, int]] = {}
    left = [size]

    def storage(key: Any) -> Any:
        if skip and isinstance(key, tuple) and len(key) == 4 and key[0] == "module":
            return key[1]  # the class of a network, which old files name so, beside its source
        kind, name, count = _storage_key(key)
        if name not in storages:
            left[0] -= count * kind.itemsize
            if left[0] < 0:
                raise Unreadable("truncated: its tensors are larger than the file")
            storages[name] = _room(count * kind.itemsize), kind.itemsize
        if len(key) > 5 and key[5] is not None:
            raise Unreadable("a view of a storage, as torch.save of 2017 wrote it; save it again with a newer one")
        if storages[name][0].nbytes() != count * kind.itemsize:
            raise Unreadable("a storage of two sizes: damaged")
        return _Storage(storages[name][0], kind.dtype)

    value = PlainUnpickler(file, size, _names(nested, skip), storage, skip=skip).load()
    names = PlainUnpickler(file, size).load()
    if not isinstance(names, list) or {str(name) for name in names} != storages.keys():
        raise Unreadable("its storages are not those that it names: damaged")
    for name in names:
        filled, itemsize = storages[str(name)]
        (count,) = struct.unpack("<q", file.read(8))
        if count * itemsize != filled.nbytes():
            raise Unreadable("a storage of another size than it claims: damaged")
        if count and file.readinto(_writable(filled)) != filled.nbytes():  # type: ignore[attr-defined]
            raise Unreadable("truncated")
    return value


def _room(size: int) -> "torch.UntypedStorage":
    import torch

    return torch.empty(size, dtype=torch.uint8).untyped_storage()


def _writable(storage: "torch.UntypedStorage") -> Any:
    import torch

    return torch.empty(0, dtype=torch.uint8).set_(storage).numpy()


def _storage_key(key: Any) -> tuple["_StorageKind", str, int]:
    """Kind, name and number of entries of a storage, from what a pickle says of it."""
    if not isinstance(key, tuple) or len(key) < 5 or key[0] not in ("storage", b"storage"):
        raise Unreadable("names something outside of it that is no storage")
    _, kind, name, _, count = key[:5]
    if isinstance(kind, Maker):
        kind()  # which says why it is not read
    if not isinstance(kind, _StorageKind) or type(count) is not int or count < 0:
        raise Unreadable("a storage of an unknown type or size")
    return kind, str(name), count


class _StorageKind:
    """The type of a storage while it is read."""

    __slots__ = ("dtype", "itemsize")

    def __init__(self, dtype: "torch.dtype") -> None:
        self.dtype, self.itemsize = dtype, dtype.itemsize


class _Storage:
    """Bytes of tensors, and the type that the file gives them."""

    __slots__ = ("bytes", "dtype")

    def __init__(self, untyped: "torch.UntypedStorage", dtype: "torch.dtype") -> None:
        self.bytes, self.dtype = untyped, dtype


def _names(nested: bool, skip: bool) -> dict[tuple[str, str], Any]:
    """What a pickle with tensors may name besides plain values."""
    import torch

    kinds = {name: _StorageKind(getattr(torch, dtype)) for name, dtype in _STORAGES.items()}
    makers: dict[str, Callable[..., Any]] = {
        "_rebuild_tensor": _tensor,
        "_rebuild_tensor_v2": _tensor,
        "_rebuild_tensor_v3": _tensor_v3,
        "_rebuild_parameter": _parameter,
        "_rebuild_parameter_with_state": _parameter,
        **{name: _refuse(what) for name, what in _NOT_DENSE.items()},
    }
    typed = Maker(_typed)
    names: dict[tuple[str, str], Any] = {
        **{(module, name): kind for module in ("torch", "torch.cuda", "torch.storage") for name, kind in kinds.items()},
        **{("torch", name): getattr(torch, name) for name in _DTYPES if hasattr(torch, name)},
        **{("torch._utils", name): Maker(make) for name, make in makers.items()},
        **{("torch", f"Q{kind}Storage"): Maker(_refuse("a quantised tensor")) for kind in ("Int8", "Int32", "UInt8")},
        ("torch", "Size"): Maker(_size),
        ("torch", "device"): Maker(_device),
        ("torch", "Tensor"): Maker(_refuse("a tensor of the first torch")),
        ("torch.nn.parameter", "Parameter"): Maker(_refuse("a parameter of the first torch")),
        ("torch._tensor", "_rebuild_from_type_v2"): typed,
        ("torch.serialization", "_get_layout"): Maker(_refuse("a sparse tensor")),
    }
    if not nested:
        names["torch.storage", "_load_from_bytes"] = Maker(partial(_storage_of_bytes, skip))
    return names


def _storage_of_bytes(skip: bool, data: Any) -> Any:
    if not isinstance(data, bytes | bytearray):
        raise pickle.UnpicklingError("a storage that is not made of bytes")
    storage = _load(io.BytesIO(data), len(data), None, skip)
    if not isinstance(storage, _Storage):
        raise pickle.UnpicklingError("a storage that holds something else")
    return storage


def _refuse(what: str) -> Callable[..., Any]:
    def refuse(*args: object) -> Any:
        raise Unreadable(f"holds {what}; only dense ones with their numbers are read")

    return refuse


def _tensor(storage: Any, offset: Any, size: Any, stride: Any, *rest: Any) -> "torch.Tensor":
    """A dense tensor over a part of a storage; ``rest`` are gradients and hooks, which are not kept."""
    if len(rest) > 2 and rest[2]:
        raise Unreadable("holds a tensor whose numbers are conjugate or negated when read; save a clone of it")
    return _over(storage, offset, size, stride, getattr(storage, "dtype", None))


def _tensor_v3(storage: Any, offset: Any, size: Any, stride: Any, grad: Any, hooks: Any, dtype: Any, *rest: Any) -> Any:
    if rest and rest[0]:
        raise Unreadable("holds a tensor whose numbers are conjugate or negated when read; save a clone of it")
    return _over(storage, offset, size, stride, dtype)


def _over(storage: Any, offset: Any, size: Any, stride: Any, dtype: Any) -> "torch.Tensor":
    import torch

    if not isinstance(storage, _Storage) or not isinstance(dtype, torch.dtype):
        raise pickle.UnpicklingError("a tensor without a storage or a type")
    if not isinstance(size, tuple) or not isinstance(stride, tuple) or len(size) != len(stride):
        raise pickle.UnpicklingError("a tensor without a shape")
    if any(type(number) is not int or number < 0 for number in (offset, *size, *stride)):
        raise pickle.UnpicklingError(f"a tensor of shape {tuple(size)}")
    count, held = math.prod(size), storage.bytes.nbytes() // dtype.itemsize
    last = offset + sum((side - 1) * step for side, step in zip(size, stride, strict=True)) if count else 0
    if count and last >= held:
        raise Unreadable(f"a tensor of shape {tuple(size)} in a storage of {held} numbers: damaged")
    if count > max(held, _REPEATED):
        raise Unreadable(f"a tensor of shape {tuple(size)} that repeats {held} numbers: save a clone of a part of it")
    return torch.empty(0, dtype=dtype).set_(storage.bytes, offset if count else 0, size, stride)


def _parameter(data: Any, requires_grad: Any = True, *rest: Any) -> Any:
    import torch

    if not isinstance(data, torch.Tensor):
        raise pickle.UnpicklingError("a parameter without a tensor")
    grad = bool(requires_grad) and (data.is_floating_point() or data.is_complex())
    return torch.nn.Parameter(data, requires_grad=grad)


def _typed(make: Any, kind: Any, args: Any, state: Any = None) -> Any:
    """A tensor that somebody gave attributes: without them."""
    if not isinstance(make, Maker) or not isinstance(args, tuple):
        raise pickle.UnpicklingError("a tensor of an unknown kind")
    return make(*args)


def _size(sides: Any = ()) -> Any:
    import torch

    if not isinstance(sides, list | tuple) or not all(type(side) is int for side in sides):
        raise pickle.UnpicklingError("a shape that is not made of whole numbers")
    return torch.Size(sides)


def _device(*args: Any) -> Any:
    import torch

    if not 0 < len(args) < 3 or not isinstance(args[0], str):
        raise pickle.UnpicklingError("a device without a name")
    return torch.device(*args)
