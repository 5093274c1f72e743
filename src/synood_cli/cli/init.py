"""`synood init`: a new workspace."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import Annotated

import typer

from synood_cli.cli.command import plain_command
from synood_cli.cli.output import Output
from synood_cli.store.workspace import Workspace


@plain_command()
def init(
    output: Output,
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="Folder to make the workspace in.")] = Path(),
) -> None:
    """Make a workspace; one that is there already is left as it is."""
    from synood_cli.store.store import Store

    existed = (folder / "synood.toml").exists()
    workspace = Workspace.create(folder)
    with Store.open(workspace, write=not workspace.database.exists()):
        output.document({"workspace": str(workspace.root), "created": not existed})
        output.line(f"{workspace.root}: {'is a workspace already' if existed else 'workspace made'}")
    where = "" if workspace.root == Path.cwd() else f" -w {shlex.quote(str(folder))}"
    output.note(f"settings: {workspace.settings_file}")
    output.hint(f"synood select{where} PHOTOS, a folder with one folder of images per class")
