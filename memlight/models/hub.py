"""Weights by name: what timm and torchvision published for an encoder, and files of a Hugging Face repository.

A file that is in the cache is taken from there, without a connection; any other is fetched once.
"""

import logging
import os
import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from memlight.errors import UserError

HUB = "hub"
"""In the place of a file: the weights that were published for an encoder's name."""

HUGGING_FACE = "hf:"
"""How the name of a Hugging Face repository begins in the place of a file."""

FILES = ("model.safetensors", "pytorch_model.bin", "encoder.safetensors")
"""What weights are called in a repository, where no file is named; the first one that is there."""

_RESNETS = ("resnet18", "resnet34", "resnet50")
_REPOSITORY = re.compile(
    r"(?P<repo>[\w.-]+/[\w.-]+)(?:@(?P<revision>[\w.-]+))?(?:/(?P<file>[^@]+))?(?:@(?P<last>[\w.-]+))?"
)


@dataclass(frozen=True)
class WeightsPlace:
    """Where a file of weights is.

    Attributes:
        path: on this machine.
        name: what it is called in results; of a fetched one with its repository.
    """

    path: Path
    name: str


def find_weights(given: str, encoder: str | None) -> WeightsPlace:
    """The file that ``--weights`` means; one that is not on this machine is fetched.

    Args:
        given: a file, ``hub``, ``hf:ORG/NAME``, ``hf:ORG/NAME/FILE``; ``@REVISION`` may follow the name or the file.
        encoder: the encoder's name, which says what ``hub`` means.

    Raises:
        UserError: nothing is published for the encoder, there is no such repository or file, or no connection: says
            which file to fetch elsewhere.
    """
    if given == HUB:
        return _published(encoder)
    if not given.startswith(HUGGING_FACE):
        return WeightsPlace(Path(given), Path(given).name)
    found = _REPOSITORY.fullmatch(given.removeprefix(HUGGING_FACE))
    if found is None or (found["revision"] and found["last"]):
        raise UserError("weights", given, "is no repository", "write hf:ORG/NAME, or hf:ORG/NAME/FILE")
    files = [found["file"]] if found["file"] else FILES
    return _from_hugging_face(given, found["repo"], files, found["revision"] or found["last"])


def _published(encoder: str | None) -> WeightsPlace:
    if encoder is None:
        raise UserError("weights", HUB, "belongs to an encoder's name", "name it with `encoder`")
    library, colon, short = encoder.partition(":")
    if encoder in _RESNETS:
        library, colon, short = "torchvision", ":", encoder
    if colon and library == "timm":
        return _of_timm(encoder, short)
    if colon and library == "torchvision":
        return _of_torchvision(encoder, short)
    why = f"nobody has published weights under the name {encoder}"
    raise UserError("weights", HUB, why, ["name `encoder` timm:NAME or torchvision:NAME", "give a file"])


def _of_timm(encoder: str, short: str) -> WeightsPlace:
    import timm

    config = timm.get_pretrained_cfg(short) if timm.is_model(short) else None
    if config is not None and config.hf_hub_id:
        files = [config.hf_hub_filename] if config.hf_hub_filename else FILES
        repo, _, revision = str(config.hf_hub_id).partition("@")
        return _from_hugging_face(HUB, repo, files, revision or None)
    if config is not None and config.url:
        return _from_address(str(config.url))
    tags = timm.list_pretrained(f"{short.partition('.')[0]}.*")[:5] if timm.is_model(short) else []
    ways = [f"name one that has some: {', '.join(f'timm:{name}' for name in tags)}"] if tags else []
    raise UserError("weights", HUB, f"timm names no weights for {encoder}", [*ways, "give a file"])


def _of_torchvision(encoder: str, short: str) -> WeightsPlace:
    from torchvision import models

    if short not in models.list_models(module=models):
        raise UserError("weights", HUB, f"torchvision has no model called {short}", "name another `encoder`")
    return _from_address(str(models.get_model_weights(short).DEFAULT.url))


def _from_hugging_face(given: str, repo: str, files: Sequence[str], revision: str | None) -> WeightsPlace:
    """The first of several files that a repository has, from the cache or fetched."""
    from huggingface_hub import hf_hub_download, try_to_load_from_cache
    from huggingface_hub.errors import (
        EntryNotFoundError,
        GatedRepoError,
        HfHubHTTPError,
        LocalEntryNotFoundError,
        RepositoryNotFoundError,
        RevisionNotFoundError,
    )

    of_its_client = (kind for kind in HfHubHTTPError.__bases__ if issubclass(kind, Exception))
    failures: tuple[type[Exception], ...] = (OSError, ValueError, *of_its_client)
    at = f"@{revision}" if revision else ""
    for file in files:
        cached = try_to_load_from_cache(repo, file, revision=revision)
        if isinstance(cached, str):
            return WeightsPlace(Path(cached), f"{repo}{at}/{file}")
    by_hand = f"fetch {files[0]} of {repo} elsewhere and give that file with `weights`"
    for file in files:
        try:
            with _quiet("huggingface_hub"):
                path = hf_hub_download(repo, file, revision=revision)
        except LocalEntryNotFoundError as error:
            why = f"{file} of {repo} is not in the cache of the hub, and the hub cannot be reached from here"
            raise UserError("weights", given, why, by_hand) from error
        except GatedRepoError as error:
            why = f"{repo} is given only to those who asked for it"
            ways = ["ask on its page, and log in with `hf auth login`", by_hand]
            raise UserError("weights", given, why, ways) from error
        except RepositoryNotFoundError as error:
            raise UserError("weights", given, f"there is no repository {repo} for you on the hub") from error
        except RevisionNotFoundError as error:
            raise UserError("weights", given, f"{repo} has no revision {revision}") from error
        except EntryNotFoundError:
            continue
        except failures as error:
            said = " ".join(str(error).split())[:200]
            raise UserError("weights", given, f"{file} of {repo} did not arrive ({said})", by_hand) from error
        return WeightsPlace(Path(path), f"{repo}{at}/{file}")
    why = f"{repo} has no {' and no '.join(files)}"
    raise UserError("weights", given, why, "name its file: hf:ORG/NAME/FILE")


def _from_address(address: str) -> WeightsPlace:
    """A file that its library publishes at an address, in torch's cache; the hash in its name is compared."""
    import torch

    name = address.rpartition("/")[2]
    path = Path(torch.hub.get_dir()) / "checkpoints" / name
    if not path.is_file():
        by_hand = f"fetch {address} elsewhere and give that file with `weights`"
        checksum = torch.hub.HASH_REGEX.search(name)
        try:
            os.makedirs(path.parent, exist_ok=True)
            torch.hub.download_url_to_file(address, str(path), checksum[1] if checksum else None, progress=False)
        except (OSError, RuntimeError) as error:
            why = f"{name} is not in torch's cache, and did not arrive ({' '.join(str(error).split())})"
            raise UserError("weights", HUB, why, by_hand) from error
    return WeightsPlace(path, name)


@contextmanager
def _quiet(name: str) -> Iterator[None]:
    """Leave out a library's lines about its attempts: the error says what there is to say."""
    logger = logging.getLogger(name)
    before = logger.level
    logger.setLevel(logging.ERROR)
    try:
        yield
    finally:
        logger.setLevel(before)
