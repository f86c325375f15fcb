"""Weights in and out: our safetensors, the published checkpoints, ImageNet backbones.

Nothing is unpickled but published `.pt`/`.pth` files, and those through `torch.load(weights_only=True)`.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping

from torch import Tensor

Rule = tuple[str, str | Callable[[re.Match[str]], str]]

# Published key -> ours, as regular expressions tried in order, the first that matches; the files by their short names.
PUBLISHED: dict[str, list[Rule]] = {
    "gen": [
        (r"enc_content\.model\.([0-3])\.conv\.", r"structure.stem.\1."),
        (r"enc_content\.model\.4\.model\.(\d+)\.(?:model\.0\.)?nonloc\.", r"structure.residual.\1.nonloc."),
        (r"enc_content\.model\.4\.model\.(\d+)\.model\.0\.conv\.", r"structure.residual.\1.first."),
        (r"enc_content\.model\.4\.model\.(\d+)\.model\.1\.conv\.", r"structure.residual.\1.second."),
        (r"enc_content\.model\.5\.conv1\.conv\.", r"structure.pyramid.point."),
        (r"enc_content\.model\.5\.conv6\.(\d)\.conv\.", r"structure.pyramid.dilated.0.\1."),
        (r"enc_content\.model\.5\.conv12\.(\d)\.conv\.", r"structure.pyramid.dilated.1.\1."),
        (r"enc_content\.model\.5\.conv18\.(\d)\.conv\.", r"structure.pyramid.dilated.2.\1."),
        (r"enc_content\.model\.5\.fuse\.conv\.", r"structure.pyramid.fuse."),
        (r"dec\.model\.1\.model\.(\d+)\.(?:model\.0\.)?nonloc\.", r"decoder.residual.\1.nonloc."),
        (r"dec\.model\.1\.model\.(\d+)\.model\.0\.conv\.", r"decoder.residual.\1.first."),
        (r"dec\.model\.1\.model\.(\d+)\.model\.1\.conv\.", r"decoder.residual.\1.second."),
        (r"dec\.model\.3\.(?:conv\.)?", r"decoder.upsample.1."),
        (r"dec\.model\.5\.(?:conv\.)?", r"decoder.upsample.3."),
        (r"dec\.model\.([678])\.conv\.", lambda m: f"decoder.paint.{int(m[1]) - 6}."),
        (r"mlp_w(\d+)\.model\.(\d)\.fc\.", lambda m: f"decoder.scales.{int(m[1]) - 1}.layers.{m[2]}."),
        (r"mlp_b(\d+)\.model\.(\d)\.fc\.", lambda m: f"decoder.shifts.{int(m[1]) - 1}.layers.{m[2]}."),
    ],
    "id": [
        (r"model\.", r"appearance.backbone."),
        (r"classifier(\d?)\.add_block\.0\.", lambda m: f"appearance.heads.{int(m[1] or 1) - 1}.reduce."),
        (r"classifier(\d?)\.add_block\.1\.", lambda m: f"appearance.heads.{int(m[1] or 1) - 1}.norm."),
        (r"classifier(\d?)\.classifier\.0\.", lambda m: f"appearance.heads.{int(m[1] or 1) - 1}.classify."),
    ],
    "dis": [
        (r"cnns\.(\d)\.(\d+)\.(?:model\.0\.)?nonloc\.", r"discriminator.scales.\1.\2.nonloc."),
        (r"cnns\.(\d)\.(\d+)\.model\.0\.conv\.", r"discriminator.scales.\1.\2.first."),
        (r"cnns\.(\d)\.(\d+)\.model\.1\.conv\.", r"discriminator.scales.\1.\2.second."),
        (r"cnns\.(\d)\.(\d+)\.(?:conv\.)?", r"discriminator.scales.\1.\2."),
        (r"cnn\.(\d)\.(?:conv\.)?", lambda m: f"discriminator.layers.{2 * int(m[1])}."),
    ],
    "teacher": [
        (r"model\.", r"backbone."),
        (r"classifier\.add_block\.0\.", r"head.reduce."),
        (r"classifier\.add_block\.1\.", r"head.norm."),
        (r"classifier\.classifier\.0\.", r"head.classify."),
    ],
}
# Published tensors that no network uses: ImageNet's classifier, and running statistics of norms that are never in use.
UNUSED = re.compile(r"model\.fc\.|dec\..*\.norm\.running_")


def from_published(kind: str, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The tensors of a published file of this `kind` (a key of `PUBLISHED`) under our names; unknown keys keep theirs."""
    return {_renamed(key, PUBLISHED[kind]): tensor for key, tensor in tensors.items() if not UNUSED.match(key)}


def _renamed(key: str, rules: list[Rule]) -> str:
    for pattern, ours in rules:
        renamed, found = re.subn("^" + pattern, ours, key)
        if found:
            return renamed
    return key
