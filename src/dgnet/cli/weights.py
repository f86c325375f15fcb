"""`dgnet weights`: checkpoints of others."""

from __future__ import annotations

from pathlib import Path

import tyro
from tyro.conf import Positional

from dgnet.cli.common import written
from dgnet.errors import UserError

app = tyro.extras.SubcommandApp()


@app.command(name="import")
def import_weights(
    source: Positional[tuple[Path, ...]], out: Path, overrides: tuple[str, ...] = (), partial: bool = False
) -> int:
    """Make a model of published checkpoints: gen_*.pt, id_*.pt, dis_*.pt and config.yaml, or a teacher's net_last.pth.

    Args:
        source: the folder of a published run, or its files
        out: folder or .safetensors file to write
        overrides: values of our configuration, such as data.height=128
        partial: import what fits, and name what does not
    """
    from dgnet.weights.published import import_published

    if not source:
        raise UserError("weights import: give the folder of a published run, or its files")

    return written(import_published([str(path) for path in source], out, overrides, partial=partial))
