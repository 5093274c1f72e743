"""`synood export`: heads for other programs."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from synood_cli.cli.command import plain_command
from synood_cli.cli.options import TrustClipOption, WorkspaceOption
from synood_cli.cli.output import Output
from synood_cli.cli.result import show_passed_over
from synood_cli.store.workspace import Workspace

export = typer.Typer(no_args_is_help=True, help="Write a head with its image tower for other programs to run.")


@export.command()
@plain_command()
def onnx(
    output: Output,
    head: Annotated[str, typer.Argument(metavar="HEAD", help="head@N, ./folder, or user/repository of the hub.")],
    to: Annotated[Path, typer.Argument(metavar="FILE", help="The file to write, such as head.onnx.")],
    check: Annotated[
        Path | None,
        typer.Option(metavar="DIR", help="Compare with torch on images of this folder, not on random ones."),
    ] = None,
    clip: Annotated[
        Path | None,
        typer.Option(metavar="DIR", help="Where the head's CLIP is, if not where the head says; or its name."),
    ] = None,
    trust_clip: TrustClipOption = False,
    workspace: WorkspaceOption = None,
) -> None:
    """Write CLIP's image tower and a head as one ONNX graph, checked against torch. Labels are in its metadata."""
    from synood_cli.data.folders import Scan, scan_images
    from synood_cli.data.passed_over import PassedOver
    from synood_cli.head_address import find_head
    from synood_cli.stages.embed import spread
    from synood_cli.stages.export_onnx import CHECKED, ExportJob, export_onnx

    found = find_head(head, Workspace.found(workspace), clip, trust_clip=trust_clip)
    if found.about_clip:
        output.note(found.about_clip)
    scan = scan_images(check) if check else Scan()
    images = [image.path for image in spread(scan.images, CHECKED)]
    passed_over = PassedOver(scan.strays)
    checked = export_onnx(ExportJob(found.folder, found.name, to.absolute(), images), found.spec)
    left_out = {str(path): reason for path, reason in [*scan.problems, *checked.left_out]}
    for path, reason in left_out.items():
        output.problem(f"{path} is left out of the check: {reason}")
    numbers = {name: value for name, value in checked._asdict().items() if name != "left_out"}
    facts = {"file": str(to), "bytes": to.stat().st_size, "head": found.name, **numbers}
    output.document(facts | {"left_out": left_out, "passed_over": passed_over.document()})
    show_passed_over(output, passed_over)
    output.fields(facts)
