"""What an offline W&B run holds, read from its ``.wandb`` file: records in LevelDB's log format, each a protobuf."""

import json
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from wandb.proto.wandb_internal_pb2 import Record

HEADER, BLOCK, PREFIX = 7, 32768, 7
"""Bytes before the first record of the file, in a block, and before each piece of a record."""


@dataclass
class OfflineRun:
    """A finished offline run.

    Attributes:
        name: shown in lists.
        group: of several runs.
        job_type: what it did.
        project: where it belongs.
        run_id: W&B's.
        sweep_id: of the sweep it is a point of; empty for none.
        tags: sorted.
        config: by its dotted place, as it was last set.
        summary: what was last logged or set.
        history: every row that was logged.
        exit_code: of the process, as W&B was told.
    """

    name: str = ""
    group: str = ""
    job_type: str = ""
    project: str = ""
    run_id: str = ""
    sweep_id: str = ""
    tags: list[str] = field(default_factory=list)
    config: dict[str, Any] = field(default_factory=dict)
    summary: dict[str, Any] = field(default_factory=dict)
    history: list[dict[str, Any]] = field(default_factory=list)
    exit_code: int | None = None


def read_offline_run(directory: Path) -> OfflineRun:
    """The run in ``wandb/offline-run-*``, once W&B's writer process has finished it."""
    for _ in range(1200):  # a writer of a process that has ended may be slow on a loaded machine
        for file in directory.glob("*.wandb"):
            run = _assemble(_records(file.read_bytes()))
            if run.exit_code is not None:
                return run
        time.sleep(0.05)
    raise AssertionError(f"{directory} was never finished")


def _assemble(records: list[Record]) -> OfflineRun:
    run = OfflineRun()
    for record in records:
        match record.WhichOneof("record_type"):
            case "run":
                run.name, run.group, run.job_type = record.run.display_name, record.run.run_group, record.run.job_type
                run.project, run.run_id, run.sweep_id = record.run.project, record.run.run_id, record.run.sweep_id
                run.tags = sorted(record.run.tags)
                run.config |= _items(record.run.config.update)
            case "config":
                run.config |= _items(record.config.update)
            case "summary":
                run.summary |= _items(record.summary.update)
            case "history":
                run.history.append(_items(record.history.item))
            case "exit":
                run.exit_code = record.exit.exit_code
    return run


def _items(items: Any) -> dict[str, Any]:
    return {item.key or "/".join(item.nested_key): json.loads(item.value_json) for item in items}


def _records(content: bytes) -> list[Record]:
    """The complete records of a file that may still be written."""
    records, piece, place = [], b"", HEADER
    while place + PREFIX <= len(content):
        room = BLOCK - place % BLOCK
        if room < PREFIX:
            place += room
            continue
        length = int.from_bytes(content[place + 4 : place + 6], "little")
        kind = content[place + 6]  # 1 whole, 2 first, 3 middle, 4 last piece
        body = content[place + PREFIX : place + PREFIX + length]
        if len(body) < length:
            break
        piece, place = piece + body, place + PREFIX + length
        if kind in (1, 4):
            records.append(Record.FromString(piece))
            piece = b""
    return records
