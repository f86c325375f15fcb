"""What published checkpoints tell of the configuration: their tensors tell the sizes, their `config.yaml` the rest."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torch import Tensor

from dgnet import console, yamltext
from dgnet.errors import UserError
from dgnet.weights.files import rows
from dgnet.weights.pretrained import backbone_of

# Published keys whose values are taken over, ...
SETTINGS: dict[str, tuple[str, ...]] = {
    "crop_image_height": ("data.height",),
    "crop_image_width": ("data.width",),
    "erasing_p": ("data.erasing",),
    "single": ("model.structure.input",),
    "ID_stride": ("model.appearance.last_stride",),
    "train_bn": ("model.appearance.train_bn",),
    "gen.dropout": ("model.decoder.dropout",),
    "dis.gan_type": ("model.discriminator.kind",),
    "dis.LAMBDA": ("loss.r1",),
    "recon_x_w": ("loss.image",),
    "recon_xp_w": ("loss.same_identity",),
    "max_w": ("loss.structure_code", "loss.appearance_code"),
    "max_cyc_w": ("loss.cycle",),
    "id_w": ("loss.identity",),
    "pid_w": ("loss.positive_identity",),
    "recon_id_w": ("loss.generated_identity",),
    "gan_w": ("loss.adversarial",),
    "max_teacher_w": ("loss.teacher",),
    "T_w": ("loss.primary",),
    "B_w": ("loss.fine_grained",),
    "warm_iter": ("loss.warm_up.start",),
    "warm_teacher_iter": ("loss.teacher_warm_up.start",),
    "warm_scale": ("loss.warm_up.per_iteration", "loss.teacher_warm_up.per_iteration"),
    "teacher_style": ("loss.teacher_style",),
    "use_encoder_again": ("loss.tune_encoder",),
    "max_iter": ("train.iterations",),
    "batch_size": ("train.half_batch",),
    "lr_g": ("train.learning_rate",),
    "lr2": ("train.backbone_learning_rate",),
    "weight_decay": ("train.weight_decay",),
    "gamma": ("train.decay",),
}
# ... that the tensors tell better, ...
SIZES = {
    "ID_class", "ID_style", "gen.dim", "gen.mlp_dim", "gen.n_downsample", "gen.n_res", "gen.non_local",
    "dis.dim", "dis.num_scales", "dis.n_layer", "dis.n_res", "dis.non_local",
}  # fmt: skip
# ... and that no tensor shows, but dgnet builds in one way only.
FIXED = {
    "gen.activ": "lrelu", "gen.pad_type": "reflect", "gen.tanh": False,
    "dis.activ": "lrelu", "dis.pad_type": "reflect", "dis.norm": "none",
    "pool": "max", "norm_id": False,
}  # fmt: skip
TEACHER_STYLES = ("soft", "hard", "appearance", "uniform", "two_labels")


def settings(path: Path) -> dict[str, Any]:
    """Our key paths and values for a published `config.yaml`; a notice names its keys that are not taken over.

    Raises `UserError` if it is not YAML, or sets what dgnet builds otherwise.
    """
    tree = yamltext.parse(yamltext.read_file(path), dict, str(path))
    if not isinstance(tree, dict):
        raise UserError(f"{path}: not a published config.yaml")
    flat: dict[str, Any] = {}
    for key, value in tree.items():
        flat |= {f"{key}.{inner}": v for inner, v in value.items()} if isinstance(value, dict) else {str(key): value}
    for key, built in FIXED.items():
        if (value := flat.pop(key, built)) != built:
            raise UserError(f"{path}: {key} = {value!r}: dgnet builds these networks with {built!r} only")
    if isinstance(style := flat.get("teacher_style"), int) and 0 <= style < len(TEACHER_STYLES):
        flat["teacher_style"] = TEACHER_STYLES[style]
    told = {ours: flat[key] for key, targets in SETTINGS.items() if key in flat for ours in targets}
    if "beta1" in flat and "beta2" in flat:
        told["train.betas"] = [flat.pop("beta1"), flat.pop("beta2")]
    if isinstance(rate := flat.get("lr2"), float):
        told["train.head_learning_rate"] = 10 * rate
    if untold := sorted(flat.keys() - SETTINGS.keys() - SIZES):
        console.notice(f"{path}: not taken over: {', '.join(untold)}")
    return told


def joint_sizes(tensors: Mapping[str, Tensor]) -> dict[str, Any]:
    """Our key paths and values for the tensors, under our names, of a DG-Net; nothing of a part that is not there.

    Tensors that have no size to tell are left to the comparison with what is then built.
    """
    sized = {key: tensor for key, tensor in tensors.items() if tensor.ndim >= 2 and tensor.numel()}

    def count(pattern: str) -> int:
        return len({match[0] for key in tensors if (match := re.match(pattern, key))})

    told: dict[str, Any] = {
        path: len(sized[key])
        for path, key in (
            ("model.structure.width", "structure.stem.0.weight"),
            ("model.decoder.mlp_width", "decoder.scales.0.layers.0.weight"),
            ("model.discriminator.width", "discriminator.scales.0.0.weight"),
            ("model.discriminator.width", "discriminator.layers.0.weight"),
            ("model.appearance.head_width", "appearance.heads.0.reduce.weight"),
        )
        if key in sized
    }
    for part in ("structure", "decoder"):
        if blocks := count(rf"{part}\.residual\.\d+\."):
            told[f"model.{part}.residual_blocks"] = blocks
            told[f"model.{part}.non_local"] = count(rf"{part}\.residual\..*nonloc\.") > 0
    if scales := count(r"discriminator\.scales\.\d+\."):
        told["model.discriminator.scales"] = scales
        told["model.discriminator.residual_blocks"] = count(r"discriminator\.scales\.0\.\d+\.first\.weight")
        told["model.discriminator.non_local"] = count(r"discriminator\..*nonloc\.") > 0
    if layers := count(r"discriminator\.layers\.\d+\."):
        told["model.discriminator.kind"] = "wgan"
        score = sized.get(f"discriminator.layers.{2 * (layers - 1)}.weight")
        if score is not None and score.ndim == 4:
            told["data.height"], told["data.width"] = (side << (layers - 1) for side in score.shape[2:])
    told["model.appearance.heads"] = "two" if count(r"appearance\.heads\.\d+\.") > 1 else "one"
    styled, pooled = sized.get("decoder.scales.0.layers.0.weight"), sized.get("appearance.heads.0.reduce.weight")
    if styled is not None and pooled is not None:
        told["model.appearance.stripes"] = styled.shape[1] * count(r"decoder\.scales\.\d+\.") // pooled.shape[1]
    return told | _backbone("appearance.backbone.", tensors, "model.appearance")


def teacher_sizes(tensors: Mapping[str, Tensor]) -> dict[str, Any]:
    """Our key paths and values for the tensors, under our names, of a teacher."""
    told = _backbone("backbone.", tensors, "teacher")
    if width := rows(tensors.get("head.reduce.weight")):
        told["teacher.head_width"] = width
    return told


def as_overrides(told: Mapping[str, Any]) -> list[str]:
    """`key.path=value`, as `config.load` takes them."""
    return [f"{path}={json.dumps(value, default=str)}" for path, value in told.items()]


def _backbone(prefix: str, tensors: Mapping[str, Tensor], group: str) -> dict[str, Any]:
    own = {key.removeprefix(prefix): tensor for key, tensor in tensors.items() if key.startswith(prefix)}
    name, width = backbone_of(own)
    return {f"{group}.backbone": name, f"{group}.backbone_width": width}
