"""Which room of the house may import which: arrows point one way, so a notebook can use the lower rooms alone."""

import ast
from pathlib import Path

import pytest

PACKAGE = Path(__file__).resolve().parent.parent / "memlight"

BASE = {"columns", "errors", "tables", "batch", "random", "dist", "stats", "layers", "discovery", "features"}
"""Rooms that everyone may use; among themselves they follow ALLOWED."""

ALLOWED: dict[str, set[str]] = {
    "errors": set(),
    "columns": set(),
    "tables": {"columns", "errors"},
    "batch": set(),
    "random": set(),
    "dist": set(),
    "stats": set(),
    "launch": {"errors"},
    "layers": {"errors"},
    "discovery": {"layers"},
    "features": {"errors", "layers", "discovery"},
    "rundir": {"errors"},
    "metrics_csv": {"columns", "tables"},
    "agreement": {"columns", "tables"},
    "data": BASE | {"rundir"},
    "models": BASE,
    "metrics": BASE,
    "modules": BASE | {"models", "metrics"},
    "checkpoints": BASE | {"models", "rundir"},
    "figures": {"columns", "tables", "errors"},
    "charts": {"columns", "tables", "figures"},
    "analysis_page": {"columns", "tables", "rundir", "page"},
    "browser": {"columns", "tables", "errors", "rundir"},
    "sections": {
        "columns",
        "tables",
        "errors",
        "rundir",
        "page",
        "analysis_page",
        "words",
        "browser",
        "sequence_columns",
    },
    "sequence_results": {"errors", "columns", "tables"},
    "plain_pickle": {"errors"},
    "sequence_reader": {"errors", "plain_pickle", "sequence_results"},
    "sequence_columns": set(),
    "sequence_page": {"analysis_page", "page", "rundir", "sections", "columns", "tables"},
    "feature_store": {"columns", "tables", "errors"},
    "feature_writer": {"columns", "tables", "errors", "feature_store"},
    "pictures": {"columns", "tables", "errors"},
    "page": {"columns", "tables", "errors"},
    "words": {"columns", "tables", "page"},
    "report": {"columns", "tables", "errors", "rundir", "figures", "page", "words", "sections", "analysis_page"},
    "settings": {"errors", "rundir", "columns", "tables"},
    "headlines": {"rundir", "columns", "tables"},
    "sweep": set(),
    "wandb_keys": {"errors", "rundir", "settings"},
    "compare": {"agreement", "analysis_page", "charts", "errors", "figures", "headlines", "page", "rundir", "settings"}
    | {"columns", "tables", "words"},
    "logs": BASE | {"rundir", "metrics_csv", "headlines", "sweep", "wandb_keys"},
    "studies": BASE
    | {"agreement"}
    | {"data", "models", "modules", "metrics", "interventions", "figures", "charts", "pictures", "logs"}
    | {"sequence_columns", "sequence_results"}
    | {"feature_store", "feature_writer", "browser", "patches", "rundir"},
    "interventions": BASE | {"metrics"},
    "patches": BASE | {"data", "models", "feature_writer", "rundir"},
    "callbacks": BASE
    | {"interventions", "data", "models", "metrics", "modules", "checkpoints", "logs", "rundir", "studies"}
    | {"sequence_results"},
}
"""Room -> rooms it may import. Rooms that are not here (the command lines) may import everything."""

COMMAND_LINES = {
    "analyses",
    "cli",
    "pair",
    "processes",
    "removal",
    "arguments",
    "training",
    "sequence_training",
    "preflight",
    "quiet",
    "analyze",
    "commands",
    "opening",
    "process_group",
    "released",
    "extracting",
    "searching",
    "patch_report",
    "trained_method",
}

NO_TORCH = {
    "agreement",
    "browser",
    "columns",
    "tables",
    "rundir",
    "figures",
    "charts",
    "analysis_page",
    "sections",
    "feature_store",
    "feature_writer",
    "pictures",
    "sequence_results",
    "sequence_reader",
    "sequence_page",
    "sequence_columns",
    "plain_pickle",
    "page",
    "words",
    "report",
    "cli",
    "arguments",
    "pair",
    "processes",
    "removal",
    "commands",
    "errors",
    "launch",
    "stats",
    "settings",
    "headlines",
    "sweep",
    "wandb_keys",
    "compare",
}


def room_of(module: str) -> str:
    return module.split(".")[1] if "." in module else ""


def imports(path: Path) -> set[str]:
    """Every module a file imports, wherever in the file."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative import"
            assert node.module is not None
            names = {f"{node.module}.{alias.name}" for alias in node.names}
            found |= names if node.module == "memlight" else {node.module}
    return found


FILES = sorted(path for path in PACKAGE.rglob("*.py") if path != PACKAGE / "__init__.py")


def own_room(path: Path) -> str:
    return path.relative_to(PACKAGE).parts[0].removesuffix(".py")


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_arrows_point_one_way(path: Path) -> None:
    room = own_room(path)
    if room in COMMAND_LINES:
        return
    assert room in ALLOWED, f"{room} is a new room: say in ALLOWED what it may import"
    reached = {room_of(module) for module in imports(path) if module.split(".")[0] == "memlight"}
    assert reached - {room} <= ALLOWED[room]


@pytest.mark.parametrize("path", [path for path in FILES if own_room(path) in NO_TORCH], ids=lambda path: path.name)
def test_rooms_that_start_at_once_do_not_import_torch(path: Path) -> None:
    top_level = {
        name.name if isinstance(node, ast.Import) else node.module
        for node in ast.parse(path.read_text()).body
        if isinstance(node, ast.Import | ast.ImportFrom)
        for name in node.names
    }
    assert not {module for module in top_level if module and module.split(".")[0] in ("torch", "lightning", "timm")}


def test_only_logs_imports_wandb() -> None:
    assert {own_room(path) for path in FILES if "wandb" in {m.split(".")[0] for m in imports(path)}} == {"logs"}
