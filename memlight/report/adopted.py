"""What the report says of a pair that somebody else trained: whose files, and what is known and what is not."""

from memlight.display import page
from memlight.storage.run_files import AdoptedFile, SplitsFile
from memlight.storage.rundir import RunDir
from memlight.storage.tables import read_json

_DEALT = {"random": "dealt at random", "not-random": "not dealt at random", "unknown": "not known"}


def adopted_section(run: RunDir) -> str:
    """Files, splits, views, and what whoever adopted them said of their training.

    Args:
        run: with an ``adopted.json``.
    """
    made, splits = read_json(run.adopted, AdoptedFile), read_json(run.splits, SplitsFile)
    views, half = made["views"], made["half"]
    pairs = []
    for role, member in made["members"].items():
        name = "reference" if half and role == "independent" else role
        pairs += [(name, f"{member['file']}: {member['words']}"), (f"{name}, sha256", member["sha256"])]
    mean, std = (", ".join(f"{value:g}" for value in views[key]) for key in ("mean", "std"))
    pairs += [
        ("splits", f"{made['splits']}, of {splits['dataset']}"),
        ("groups of images", _DEALT[made["dealt"]]),
        ("views", f"{views['name']}, {views['size']} pixels{_if_assumed(made['views_said'])}"),
        ("mean and std", f"{mean}; {std}{_if_assumed(made['normalisation_said'])}"),
        ("initial weights", {"unknown": "not known"}.get(made["initial_weights"], made["initial_weights"])),
        ("trained with", made["method"] or "not known"),
        ("epochs", str(made["epochs"] or "not known")),
    ]
    if half:
        pairs.append(("the reference saw", made["reference_saw"] or "not known"))
    explained = page.paragraph(
        "These encoders were not trained here: what is said of their training is what whoever adopted them said, and "
        "nothing of it was checked but that the files fit the architecture and that the images are there. Whether an "
        "encoder saw the images that its split names cannot be seen from its weights.",
        "soft",
    )
    return page.facts(pairs) + explained


def _if_assumed(said: bool) -> str:
    return "" if said else " (assumed)"
