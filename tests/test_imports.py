"""The storeys of the house: arrows between rooms run downwards, so a notebook can use the lower rooms alone."""

import ast
from pathlib import Path

import pytest

PACKAGE = Path(__file__).resolve().parent.parent / "memlight"

STOREYS = (
    {"errors", "endings", "random", "dist", "stats", "batch", "columns"},
    {"commands", "features", "storage"},
    {"metrics", "interventions", "models", "data", "display"},
    {"runs", "patches", "modules"},
    {"sequences"},
    {"analyses"},
    {"training", "report", "callbacks"},
    {"cli", "analyze"},
    {"__main__"},
)
"""From the ground up; rooms of one storey do not import each other."""

FILES = sorted(path for path in PACKAGE.rglob("*.py") if path != PACKAGE / "__init__.py")

STARTS_AT_ONCE = [
    path
    for path in FILES
    if path.relative_to(PACKAGE).parts[0].removesuffix(".py")
    in {"analyze", "cli", "columns", "commands", "display", "endings", "errors", "report", "stats", "storage"}
    or path.stem.startswith(("__init__", "command", "section", "chart", "columns", "page", "browser"))
    or path.stem in {"headlines", "launch", "settings", "sweep", "wandb_keys", "flags"}
    or path.stem in {"arguments", "pair", "processes", "reader", "results", "removal", "agreement"}
]
"""What a command line or a page needs: torch takes seconds to import, so it comes after the check of the flags."""


def rooms(path: Path) -> tuple[str, set[str]]:
    """The room of a file, and those that it imports from anywhere in it."""
    modules = set(imported(ast.walk(ast.parse(path.read_text()))))
    reached = {module.split(".")[1] for module in modules if module.startswith("memlight.")}
    room = path.relative_to(PACKAGE).parts[0].removesuffix(".py")
    return room, reached - {room}


def imported(nodes: object) -> list[str]:
    found = []
    for node in nodes:  # type: ignore[attr-defined]
        if isinstance(node, ast.Import):
            found += [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0 and node.module is not None, "relative import"
            found += [f"{node.module}.{alias.name}" for alias in node.names]
    return found


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_arrows_run_downwards(path: Path) -> None:
    room, reached = rooms(path)
    (storey,) = [number for number, names in enumerate(STOREYS) if room in names]
    assert reached <= set().union(*STOREYS[:storey])


@pytest.mark.parametrize("path", STARTS_AT_ONCE, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_what_starts_at_once_does_not_import_torch(path: Path) -> None:
    modules = imported(ast.parse(path.read_text()).body)
    assert not {module for module in modules if module.split(".")[0] in ("torch", "lightning", "timm")}


def test_only_logs_import_wandb() -> None:
    found = {
        path for path in FILES if "wandb" in {m.split(".")[0] for m in imported(ast.walk(ast.parse(path.read_text())))}
    }
    assert {str(path.relative_to(PACKAGE)) for path in found} == {"runs/log.py", "training/loggers.py"}


def test_arrows_between_questions_run_one_way() -> None:
    """A question may build on another, which then knows nothing of it; `registry` knows all."""
    arrows: dict[str, set[str]] = {}
    for path in FILES:
        room, question, *_ = (part.removesuffix(".py") for part in (*path.relative_to(PACKAGE).parts, ""))
        if room == "analyses" and question != "registry":
            modules = (module.split(".") for module in imported(ast.walk(ast.parse(path.read_text()))))
            reached = {module[2] for module in modules if module[:2] == ["memlight", "analyses"]}
            arrows.setdefault(question, set()).update(reached - {question})
    while leaves := {question for question, reached in arrows.items() if not reached & arrows.keys()}:
        arrows = {question: reached for question, reached in arrows.items() if question not in leaves}
    assert not arrows, f"these import each other in a circle: {arrows}"
