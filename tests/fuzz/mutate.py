"""Valid files made invalid: bytes flipped and cut, values of other types, entries renamed, nested, repeated."""

import io
import json
import pickle
import struct
import warnings
import zipfile
from collections.abc import Callable
from random import Random
from typing import Any

Mutation = Callable[[bytes, Random], bytes]

NUMBERS = (0, -1, 1, 255, 2**31, 2**32 - 1, 2**53, 2**63 - 1, 2**64 - 1, 10**30, 10**5000)
VALUES: tuple[Any, ...] = (
    None,
    True,
    0,
    -1,
    2**70,
    1.5,
    1e308,
    "",
    "x",
    "../../x",
    "\0",
    "\u2028",
    [],
    {},
    [[]],
    {"a": {}},
)


# Bytes of any format


def flip(data: bytes, rng: Random) -> bytes:
    """Some bits changed."""
    changed = bytearray(data or b"\0")
    for _ in range(rng.choice((1, 1, 2, 8, 64))):
        changed[rng.randrange(len(changed))] ^= 1 << rng.randrange(8)
    return bytes(changed)


def cut(data: bytes, rng: Random) -> bytes:
    """The end missing, the beginning, or a part between them."""
    first, last = sorted(rng.randrange(len(data) + 1) for _ in range(2))
    return rng.choice((data[:first], data[last:], data[:first] + data[last:]))


def splice(data: bytes, rng: Random) -> bytes:
    """A part at another place, once or often."""
    first, last = sorted(rng.randrange(len(data) + 1) for _ in range(2))
    at = rng.randrange(len(data) + 1)
    return data[:at] + data[first : min(last, first + 4096)] * rng.choice((1, 2, 50)) + data[at:]


def number(data: bytes, rng: Random) -> bytes:
    """A huge or negative number over some bytes, or between them."""
    value = rng.choice(NUMBERS[:9])
    packed = struct.pack(rng.choice(("<Q", ">Q")), value % 2**64)[: rng.choice((1, 2, 4, 8))]
    packed = rng.choice((packed, str(value).encode()))
    at = rng.randrange(len(data) + 1)
    return data[:at] + packed + data[at + rng.choice((0, len(packed))) :]


def noise(data: bytes, rng: Random) -> bytes:
    """Random bytes, zeros or letters in place of a part."""
    at, count = rng.randrange(len(data) + 1), rng.choice((1, 4, 16, 200))
    filled = rng.choice((rng.randbytes(count), bytes(count), b"A" * count, b"\xff" * count))
    return data[:at] + filled + data[at + count :]


def nothing(data: bytes, rng: Random) -> bytes:
    """Hardly anything, or anything else."""
    return rng.choice(
        (b"", b"\0" * 100, b"null", b"[]", b"{}", b"x", rng.randbytes(300), b"\x80\x04.", b"PK\5\6" + bytes(18))
    )


BYTES: dict[str, Mutation] = {mutation.__name__: mutation for mutation in (flip, cut, splice, number, noise, nothing)}


# JSON and YAML


def _places(value: Any, at: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    inner = value.items() if isinstance(value, dict) else enumerate(value[:20]) if isinstance(value, list) else ()
    return [at, *(place for key, item in inner for place in _places(item, (*at, key)))]


def _changed(value: Any, rng: Random) -> Any:
    """A value with a part of another type, without a key, with another key, or with a part twice."""
    place = rng.choice(_places(value)[1:] or [()])
    if not place:
        return rng.choice(VALUES)
    holder = value
    for key in place[:-1]:
        holder = holder[key]
    match rng.randrange(5):
        case 0:
            del holder[place[-1]]
        case 1 if isinstance(holder, dict):
            holder[f"{place[-1]}x"] = holder.pop(place[-1])
        case 2 if isinstance(holder[place[-1]], list):
            holder[place[-1]] = holder[place[-1]] * 2 + [rng.choice(VALUES)]
        case _:
            holder[place[-1]] = rng.choice((*VALUES, *NUMBERS[:8]))
    return value


def json_value(data: bytes, rng: Random) -> bytes:
    """A value of another type, or a key missing."""
    return json.dumps(_changed(json.loads(data), rng)).encode()


def json_text(data: bytes, rng: Random) -> bytes:
    """Depth, numbers of thousands of digits, NaN, or letters that are no UTF-8, in place of a value."""
    words = (
        b"[" * 100_000,
        b"[" * 100_000 + b"]" * 100_000,
        b"1" * 10_000,
        b"NaN",
        b"-Infinity",
        b'"\xff\xfe"',
        b"1e999",
    )
    at = data.find(b":", rng.randrange(len(data)))
    end = data.find(b",", at)
    return data[: at + 1] + rng.choice(words) + (data[end:] if end > 0 else b"}")


JSON = {**BYTES, "json_value": json_value, "json_value_2": json_value, "json_text": json_text}


def yaml_value(data: bytes, rng: Random) -> bytes:
    """As `json_value`: JSON is YAML."""
    import yaml

    return json.dumps(_changed(yaml.safe_load(data), rng)).encode()


def yaml_text(data: bytes, rng: Random) -> bytes:
    """Aliases that repeat each other or hold themselves, depth, tags of Python."""
    bomb = "a0: &a0 [x, x, x, x, x, x, x, x, x]\n" + "".join(
        f"a{at}: &a{at} [{', '.join([f'*a{at - 1}'] * 9)}]\n" for at in range(1, 9)
    )
    endless = ("a: &a [*a]\n", "a: &a {b: *a}\n", "a: " + "[" * 100_000, "- " * 10_000)
    numbers = ("a: " + "1:" * 50_000 + "1\n", "a: " + "1" * 6000 + "\n", "a: 2020-99-99\n")
    others = ("a: !!python/object/apply:os.getcwd []\n", "? {a: b}\n: c\n")
    return data + rng.choice((bomb, *endless, *numbers, *others)).encode()


YAML = {**BYTES, "yaml_value": yaml_value, "yaml_value_2": yaml_value, "yaml_text": yaml_text}


# Tables


def cell(data: bytes, rng: Random) -> bytes:
    """Another word in a cell, a column or rows missing, a very long cell, NUL."""
    rows = [line.split(b",") for line in data.split(b"\n")]
    match rng.randrange(6):
        case 0:
            return rows and b",".join(rows[0]) + b"\n"
        case 1:
            column = rng.randrange(len(rows[0]))
            return b"\n".join(b",".join(row[:column] + row[column + 1 :]) for row in rows)
        case 2:
            kept = [row for row in rows[1:-1] if rng.random() < 0.5]
            return b"\n".join(b",".join(row) for row in (rows[0], *kept, []))
        case _:
            row = rng.choice(rows[:-1] or rows)
            words = (
                b"",
                b"x",
                b"nan",
                b"-1",
                b"1e400",
                b"9" * 30,
                b"9" * 5000,
                b"\0",
                b"x" * 200_000,
                b'"',
                b"\xff",
                b"True",
            )
            row[rng.randrange(len(row))] = rng.choice(words)
            return b"\n".join(b",".join(row) for row in rows)


CSV = {**BYTES, "cell": cell, "cell_2": cell, "cell_3": cell}


# Zip archives, and what is made of them


def entries(data: bytes, rng: Random) -> bytes:
    """Entries missing, twice, compressed, of another size, or with the content of another one."""
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        found = [(entry.filename, archive.read(entry)) for entry in archive.infolist()]
    at = rng.randrange(len(found))
    name, content = found[at]
    compression = zipfile.ZIP_STORED
    match rng.randrange(6):
        case 0:
            del found[at]
        case 1:
            found.append((name, rng.choice(found)[1]))
        case 2:
            compression = zipfile.ZIP_DEFLATED
        case 3:
            found[at] = name, rng.choice(found)[1]
        case 4:
            found[at] = name, rng.choice(list(BYTES.values()))(content, rng)
        case _:
            found[at] = rng.choice(("../" + name, name + "x", "/" + name, "")), content
    out = io.BytesIO()
    with warnings.catch_warnings(), zipfile.ZipFile(out, "w", compression) as archive:
        warnings.simplefilter("ignore")
        for name, content in found:
            archive.writestr(name or "x", content)
    return out.getvalue()


def claimed(data: bytes, rng: Random) -> bytes:
    """The directory of a zip says something else of sizes, places and kinds."""
    at = [place for place in range(len(data)) if data.startswith(b"PK\1\2", place)]
    if not at:
        return flip(data, rng)
    offset, size = rng.choice(((8, 2), (10, 2), (16, 4), (20, 4), (24, 4), (28, 2), (30, 2), (42, 4)))
    begin = rng.choice(at) + offset
    return data[:begin] + (rng.choice(NUMBERS[:9]) % 2 ** (8 * size)).to_bytes(size, "little") + data[begin + size :]


ZIP = {**BYTES, "entries": entries, "entries_2": entries, "claimed": claimed}


# Safetensors


def header(data: bytes, rng: Random) -> bytes:
    """Another value in the header, or in the JSON of its metadata."""
    length = int.from_bytes(data[:8], "little")
    content = json.loads(data[8 : 8 + length])
    texts = [key for key in content.get("__metadata__", {}) if content["__metadata__"][key][:1] == "{"]
    if texts and rng.random() < 0.6:
        key = rng.choice(texts)
        inside = rng.choice((json_value, json_value, json_text))(content["__metadata__"][key].encode(), rng)
        content["__metadata__"][key] = inside.decode("latin1")
    else:
        content = _changed(content, rng)
    encoded = json.dumps(content).encode()
    return len(encoded).to_bytes(8, "little") + encoded + data[8 + length :]


SAFETENSORS = {**BYTES, "header": header, "header_2": header, "header_3": header}


# Pickles


class _Named:
    def __init__(self, *call: Any) -> None:
        self.call = call

    def __reduce__(self) -> Any:
        import numpy as np

        kind = self.call[0]
        if kind == "objects":
            return np.ndarray, ((1,), "O", bytearray(b"\x41" * 8))
        if kind == "scalar":
            return np.float64(0).__reduce__()[0], (np.dtype("O"), b"\x41" * 8)
        if kind == "state":
            state = (1, (2,), np.dtype("O"), False, b"\x41" * 16)
            return np.array(1).__reduce__()[0], (np.ndarray, (0,), b"b"), state
        return bytearray, (2**40,)


def forged(data: bytes, rng: Random) -> bytes:
    """Calls that would crash the process or fill the memory, and values without end."""
    deep: Any = 1
    for _ in range(rng.choice((50, 2000))):
        deep = [deep]
    wide: Any = ()
    for _ in range(40):
        wide = (wide, wide)
    endless: dict[str, Any] = {}
    endless["logs"] = [endless]
    if rng.random() < 0.1:  # a key that takes an age to hash: a tuple of the same two tuples, forty times
        return b"\x80\x02})" + b"2\x86" * 40 + b"K\x01s."
    kinds = [_Named(kind) for kind in ("objects", "scalar", "state", "huge")]
    value = rng.choice((*kinds, wide, endless, [1] * 3, {"logs": [{"phase": 1}], "args": {}}))
    return pickle.dumps({"args": {}, "logs": [value], "model": {}}, protocol=rng.choice((2, 4)))


PICKLE = {**BYTES, "forged": forged, "flip_2": flip, "number_2": number}
