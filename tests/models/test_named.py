"""Encoders of one's own by name: what is asked of them, what is said when something is wrong, whose code may run."""

import json
import os
import random
import re
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import nn

from memlight.errors import UserError
from memlight.features import list_layers
from memlight.features.discovery import forward_blank
from memlight.models.encoders import (
    build_encoder,
    build_from_metadata,
    encoder_spec,
    load_encoder,
    read_metadata,
    save_encoder,
)
from memlight.models.trust import is_trusted
from tests.own_code import in_working_directory, on_another_machine
from tests.said import refused, said


@pytest.fixture(autouse=True)
def _nets(tmp_path):
    with in_working_directory(tmp_path):
        yield


@pytest.mark.parametrize(
    ("name", "arguments", "features"),
    [
        ("mynets:Net", {}, 5),
        ("mynets:Net", {"width": 3, "norm": "instance"}, 5),
        ("mynets:make", {"width": 6}, 5),
        ("mynets:Lazy", {}, 6),
        ("mynets:Fixed", {}, 7),
        ("mynets:Plain", {}, 3),
        ("timm.models.resnet:resnet18", {"num_classes": 0}, 512),
        ("torchvision.models:squeezenet1_1", {"num_classes": 9}, 9),
    ],
)
def test_a_class_or_function_of_ones_own_is_an_encoder(name, arguments, features):
    size = 8 if name.startswith("mynets") else 64
    encoder = build_encoder(name, image_size=size, seed=0, encoder_args=arguments)
    spec = encoder_spec(encoder)
    assert (spec.name, spec.args, spec.num_features, spec.input_size) == (name, arguments, features, size)
    assert encoder.training
    assert encoder(torch.rand(3, 3, size, size)).shape == (3, features)


def test_finding_the_number_of_features_changes_nothing():
    random.seed(1), np.random.seed(1), torch.manual_seed(1)
    before = random.getstate(), np.random.get_state()[1].tobytes(), torch.get_rng_state()
    encoder = build_encoder("mynets:Net", seed=3, image_size=8)
    scale, state = encoder.scale, {name: value.clone() for name, value in encoder.state_dict().items()}
    forward_blank(encoder)
    list_layers(encoder)
    now = random.getstate(), np.random.get_state()[1].tobytes(), torch.get_rng_state()

    assert before[:2] == now[:2] and torch.equal(before[2], now[2])
    assert state["calls"] == 0 and state["norm.num_batches_tracked"] == 0
    assert encoder.scale is scale and all(
        torch.equal(state[name], value) for name, value in encoder.state_dict().items()
    )


@pytest.mark.parametrize("name", ["mynets:Net", "mynets:Lazy"])
def test_initial_weights_are_a_function_of_the_seed_whatever_they_are_drawn_from(name):
    first = build_encoder(name, seed=3, image_size=8).state_dict()
    random.random(), np.random.rand(), torch.rand(1)
    again, other = (build_encoder(name, seed=seed, image_size=8).state_dict() for seed in (3, 4))
    assert all(torch.equal(first[key], again[key]) for key in first)
    assert any(not torch.equal(first[key], other[key]) for key in first)


def test_what_is_saved_comes_back_with_its_arguments(tmp_path):
    encoder = build_encoder("mynets:Net", seed=5, image_size=8, encoder_args={"width": 3})
    save_encoder(tmp_path / "e.safetensors", encoder, {"role": "candidate"})
    loaded = load_encoder(tmp_path / "e.safetensors")
    assert encoder_spec(loaded) == encoder_spec(encoder)
    assert all(torch.equal(encoder.state_dict()[key], value) for key, value in loaded.state_dict().items())


def test_the_record_of_a_built_in_encoder_is_what_older_releases_wrote(tmp_path):
    save_encoder(tmp_path / "e.safetensors", build_encoder("resnet9", seed=0), {})
    assert "args" not in read_metadata(tmp_path / "e.safetensors")["architecture"]


@pytest.mark.parametrize(
    ("name", "arguments", "words"),
    [
        ("nowhere:Net", {}, "--encoder nowhere:Net: no module nowhere in the working directory"),
        ("nowhere.deep:Net", {}, "no module nowhere in the working directory"),
        ("mynets.deep:Net", {}, r"no module mynets\.deep in"),
        ("mynets:Nett", {}, r"module mynets \(mynets.py\) has no Nett; nearest: Net;"),
        ("mynets:Net.small", {}, r"module mynets \(mynets.py\) has no Net\.small"),
        ("mynets.py:Net", {}, "is not the name of a class or function in a Python module; write mynets:Net"),
        ("./mynets.py:Net", {}, "write mynets:Net"),
        ("mynets:", {}, r"write mynets:Class|write package\.module:Class"),
        ("my nets:Net", {}, r"write package\.module:Class"),
        ("mynets:NUMBER", {}, "is an int, not a class or a function"),
        ("mynets:MADE", {}, "is one module that exists already; name a function that makes it anew"),
        ("mynets:fails", {}, r"fails\(\) raised RuntimeError: no luck \(mynets.py, line \d+\); give .*--encoder-args"),
        ("mynets:fails", {"text": "a\nb"}, r"fails\(text='a\\nb'\) raised RuntimeError: a b \(mynets.py"),
        ("mynets:quits", {}, r"quits\(\) raised SystemExit: 3"),
        ("mynets:Net", {"widht": 3}, r"Net\(widht=3\) raised TypeError: .* unexpected keyword argument 'widht'"),
        ("mynets:count", {"n": 2}, "gives a list, not a torch.nn.Module"),
        ("mynets:Fixed", {}, r"a forward of images \(2, 3, 224, 224\) raised RuntimeError: .*; say with --image-size"),
        ("mynets:linear", {}, "its modules have an attribute called spec"),
        ("mynets:stateful", {}, r"keeps a dictionary among its weights \(_extra_state\)"),
        ("resnet18", {"width": 3}, r'--encoder-args {"width": 3}: resnet18 takes none'),
        ("mynets:Net", {"width": nn.ReLU}, "--encoder-args: not all are numbers, words"),
        ("mynets:Net", {"width": float("nan")}, "--encoder-args: not all are numbers, words"),
    ],
)
def test_what_is_wrong_is_one_line_that_names_the_flag(name, arguments, words):
    with pytest.raises(UserError) as caught:
        build_encoder(name, encoder_args=arguments)
    line = said(caught.value.renamed({"name": "encoder"}))
    assert re.search(words, line) and "\n" not in line, line
    assert not is_trusted(name)


@pytest.mark.parametrize(
    ("what", "words"),
    [
        ("maps", r"gives maps \(B, 4, 8, 8\) for a batch of images, not features \(B, D\); .*AdaptiveAvgPool2d"),
        ("tokens", r"gives tokens \(B, 64, 4\) .*one of them, or their mean"),
        ("dict", r"gives a dictionary \(pooled \(2, 4\), all \(2, 4, 8, 8\)\).*returns one tensor of it"),
        ("tuple", r"gives a tuple \(0 \(2, 4, 8, 8\), 1 None\)"),
        ("nothing", "gives None for a batch"),
        ("first", "first axis is 4 for 2 images"),
        ("one", r"gives a tensor \(\) for a batch"),
        ("merged", "first axis is 8 for 2 images"),
        ("whole", "gives torch.int64 numbers"),
        ("wide", r"gives a tensor \(B, 4, 8, 8, 1\)"),
    ],
)
def test_an_output_that_is_no_features_says_what_came_out_and_the_way_out(what, words):
    with refused(words):
        build_encoder("mynets:Gives", image_size=8, encoder_args={"what": what})


def test_a_module_that_fails_on_import_says_its_own_error(tmp_path):
    (tmp_path / "broken.py").write_text("import not_installed_anywhere\n")
    (tmp_path / "typo.py").write_text("def f(:\n")
    with refused(r"importing broken raised ModuleNotFoundError: No module named 'not_installed_anywhere' \(broken.py"):
        build_encoder("broken:Net")
    with refused("importing typo raised SyntaxError"):
        build_encoder("typo:Net")


def test_one_module_twice_is_no_two_encoders():
    (Path("mynets.py")).write_text(
        Path("mynets.py").read_text() + "\n\ndef again():\n    return SHARED\n\nSHARED = Net()\n"
    )
    build_encoder("mynets:again", image_size=8)
    with refused("returned a module that it had returned before"):
        build_encoder("mynets:again", image_size=8)


def test_the_working_directory_comes_first_for_the_name_and_last_for_all_else(tmp_path):
    (tmp_path / "secrets.py").write_text("raise RuntimeError('the library was meant')\n")
    build_encoder("mynets:Net", image_size=8)
    assert sys.path[-1] == str(tmp_path) and sys.path.count(str(tmp_path)) == 1


# whose code may run


def record_of(name: str, **arguments: object) -> dict[str, object]:
    architecture = {"name": name, "stem": "imagenet", "in_channels": 3, "num_features": 5, "input_size": 8}
    return {"architecture": {**architecture, **({"args": arguments} if arguments else {})}}


@pytest.mark.parametrize("arguments", [{}, {"command": "touch ran"}])
def test_a_file_that_names_a_command_never_runs_it(arguments, tmp_path, monkeypatch):
    monkeypatch.setattr(os, "system", lambda *_, **__: (tmp_path / "ran").touch())
    save_file(
        {"a": torch.zeros(1)}, tmp_path / "e.safetensors", {"memlight": json.dumps(record_of("os:system", **arguments))}
    )
    with refused(r"--path .*was made by os:system, code that is not memlight's .*; if you trust .* --trust os:system"):
        load_encoder(tmp_path / "e.safetensors")
    assert not (tmp_path / "ran").exists()


@pytest.mark.parametrize(
    ("name", "arguments"),
    [
        ("antigravity:fly", {}),  # not imported
        ("torch:load", {"f": "x"}),  # imported, a function
        ("torchmetrics.text:BERTScore", {}),  # a module of an installed library, which may fetch what it is told to
        ("torch.nn:Linear", {"in_features": 3, "out_features": 5}),
        ("mynets:fails", {}),
    ],
)
def test_neither_functions_nor_libraries_are_trusted_for_being_imported(name, arguments, tmp_path):
    import torchmetrics.text  # noqa: F401

    sys.path.append(str(tmp_path))
    import mynets  # type: ignore[import-not-found]  # noqa: F401

    before = set(sys.modules)
    with refused("nobody has named on this machine"):
        build_from_metadata(record_of(name, **arguments), seed=0, path="x")
    assert "antigravity" not in set(sys.modules) - before


def test_what_a_notebook_has_imported_is_trusted(tmp_path):
    save_encoder(tmp_path / "e.safetensors", build_encoder("mynets:Net", seed=0, image_size=8), {})
    with on_another_machine(tmp_path):
        with refused("nobody has named"):
            load_encoder(tmp_path / "e.safetensors")
        assert "mynets" not in sys.modules
        import mynets

        assert isinstance(load_encoder(tmp_path / "e.safetensors"), mynets.Net)


def test_a_name_that_was_typed_is_trusted_in_later_processes_and_one_that_failed_is_not(tmp_path):
    with pytest.raises(UserError):
        build_encoder("mynets:fails")
    build_encoder("mynets:make", seed=0, image_size=8)
    build_encoder("mynets:make", seed=0, image_size=8)
    assert (tmp_path / "data/memlight/trusted_encoders.txt").read_text() == "mynets:make\n"
    assert not is_trusted("mynets:fails")


@pytest.mark.parametrize("place", ["missing", "a file", "not a list"])
def test_where_the_list_cannot_be_kept_the_process_still_knows(place, tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "there" / "deep"))
    if place == "a file":
        (tmp_path / "there").touch()
    elif place == "not a list":
        (tmp_path / "there/deep/memlight").mkdir(parents=True)
        (tmp_path / "there/deep/memlight/trusted_encoders.txt").write_bytes(b"\xff\xfe")
    encoder = build_encoder("mynets:Net", seed=0, image_size=8)
    build_from_metadata({"architecture": encoder_spec(encoder).record()}, seed=0, path="x")


def test_without_a_home_nothing_is_kept(tmp_path, monkeypatch):
    for name in ("XDG_DATA_HOME", "HOME", "USERPROFILE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(Path, "home", lambda: (_ for _ in ()).throw(RuntimeError("no home")))
    build_encoder("mynets:Net", seed=0, image_size=8)
    assert is_trusted("mynets:Net")


def test_trust_is_given_for_one_file_alone(tmp_path):
    save_encoder(tmp_path / "e.safetensors", build_encoder("mynets:make", seed=0, image_size=8), {})
    with on_another_machine(tmp_path):
        load_encoder(tmp_path / "e.safetensors", trust=["mynets:make"])
        with refused("nobody has named"):
            load_encoder(tmp_path / "e.safetensors")


def test_what_trusted_code_builds_by_a_name_from_the_file_is_asked_for_too(tmp_path):
    encoder = build_encoder("mynets:other", image_size=8, encoder_args={"name": "mynets:Plain"})
    record = {"architecture": encoder_spec(encoder).record()}
    with on_another_machine(tmp_path):
        pass
    record["architecture"]["args"] = {"name": "mynets:Lazy"}
    with refused("cannot be made by mynets:other again.*mynets:Lazy"):
        build_from_metadata(record, seed=0, path="x")


def test_code_that_is_gone_or_was_changed_says_so(tmp_path):
    save_encoder(tmp_path / "e.safetensors", build_encoder("mynets:Net", seed=0, image_size=8), {})
    sys.modules.pop("mynets")
    source = tmp_path / "mynets.py"
    text = source.read_text()
    source.unlink()
    with refused("cannot be made by mynets:Net again: no module mynets.*start the command where that code is"):
        load_encoder(tmp_path / "e.safetensors")
    source.write_text(text.replace("nn.Linear(width, 5)", "nn.Linear(width, 55)"))
    with refused("was made as EncoderSpec.*num_features=5,"):
        load_encoder(tmp_path / "e.safetensors")
    assert load_file(tmp_path / "e.safetensors")
