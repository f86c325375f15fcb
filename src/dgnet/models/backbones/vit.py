"""Vision transformers of the library `transformers` (extra `vit`) as backbones: DINOv2, DINOv3 and CLIP's image half.

Oquab et al., "DINOv2", TMLR 2024; Siméoni et al., "DINOv3", 2025; Radford et al., "CLIP", ICML 2021. The names of the
weights are those of the library, below `model.`.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import torch.nn.functional as F
from torch import Tensor, nn

from dgnet.errors import UserError
from dgnet.models.backbones.scaling import Rescale


class Size(NamedTuple):
    """A published transformer."""

    kind: str  # `model_type` of its configuration
    layers: int
    heads: int  # of 64 channels each
    patch: int  # pixels


SIZES = {
    "dinov2_small": Size("dinov2", 12, 6, 14),
    "dinov2_base": Size("dinov2", 12, 12, 14),
    "dinov2_large": Size("dinov2", 24, 16, 14),
    "dinov3_small": Size("dinov3_vit", 12, 6, 16),
    "dinov3_base": Size("dinov3_vit", 12, 12, 16),
    "dinov3_large": Size("dinov3_vit", 24, 16, 16),
    "clip_base_32": Size("clip_vision_model", 12, 12, 32),
    "clip_base_16": Size("clip_vision_model", 12, 12, 16),
    "clip_large_14": Size("clip_vision_model", 24, 16, 14),
}
"""By name."""

CLIP_MEAN, CLIP_STD = (0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711)


class ViT(nn.Module):
    """x [N, 3, H, W] -> the last layer's patches as a map [N, channels, H / stride, W / stride], rounded.

    `config` is a configuration of `transformers`: a `Dinov2Config`, `DINOv3ViTConfig` or `CLIPVisionConfig`. The image
    is resized to whole patches; position embeddings are interpolated to it. A transformer keeps one size from the first
    block to the last: with `last_stride` 2 its map is averaged over 2 x 2 patches. Its norms know no batch.
    """

    def __init__(self, config: Any, *, name: str = "vit", last_stride: int = 1, width: int = 64) -> None:
        super().__init__()
        import transformers

        self.name, self.width, self.last_stride = name, width, last_stride
        self.channels, self.patch = config.hidden_size, config.patch_size
        self.stride = self.patch * last_stride
        self.kind = config.model_type
        self.clip = self.kind == "clip_vision_model"
        classes = {"dinov2": "Dinov2Model", "dinov3_vit": "DINOv3ViTModel", "clip_vision_model": "CLIPVisionModel"}
        self.model = getattr(transformers, classes[self.kind])(config)
        self.rescale = Rescale(CLIP_MEAN, CLIP_STD) if self.clip else nn.Identity()
        if not self.clip:  # in use only where the network is trained to guess what is hidden
            self.model.embeddings.mask_token.requires_grad_(False)

    @property
    def stages(self) -> list[nn.Module]:
        depth = self.model.config.num_hidden_layers
        blocks = next(m for m in self.model.modules() if isinstance(m, nn.ModuleList) and len(m) == depth)
        before = [self.model.embeddings, *([self.model.pre_layrnorm] if self.clip else [])]
        after = {"dinov2": "layernorm", "dinov3_vit": "norm", "clip_vision_model": "post_layernorm"}[self.kind]
        return [nn.ModuleList(before), *blocks, getattr(self.model, after)]

    def forward(self, x: Tensor) -> Tensor:
        rows, columns = (max(1, round(side / self.patch)) for side in x.shape[2:])
        size = (rows * self.patch, columns * self.patch)
        if x.shape[2:] != size:
            x = F.interpolate(x, size, mode="bilinear", align_corners=False, antialias=True)
        options = {"interpolate_pos_encoding": True} if self.clip else {}  # the others do so anyway
        tokens = self.model(self.rescale(x), **options).last_hidden_state  # [N, class and registers + patches, C]
        if self.clip:  # which norms the class token alone
            tokens = self.model.post_layernorm(tokens)
        features = tokens[:, -rows * columns :].mT.unflatten(2, (rows, columns))
        return F.avg_pool2d(features, 2, ceil_mode=True) if self.last_stride == 2 else features


def published(name: str, *, last_stride: int = 1, width: int = 64) -> ViT:
    """A transformer of `SIZES` with random weights; `width` is the channels of each of its heads, 64 as published.

    Raises `UserError` where the library is not installed.
    """
    try:
        from transformers import CLIPVisionConfig, Dinov2Config, DINOv3ViTConfig
    except ImportError as error:
        raise UserError(f"backbone {name}: needs transformers ({error}): pip install 'dgnet[vit]'") from error
    size = SIZES[name]
    config: Any
    shape: dict[str, Any] = {
        "hidden_size": size.heads * width,
        "num_hidden_layers": size.layers,
        "num_attention_heads": size.heads,
        "patch_size": size.patch,
    }
    wide: dict[str, Any] = {"intermediate_size": 4 * size.heads * width}
    if size.kind == "dinov2":
        config = Dinov2Config(image_size=518, **shape)
    elif size.kind == "clip_vision_model":
        config = CLIPVisionConfig(image_size=224, **shape, **wide)
    elif width % 4:
        raise UserError(f"backbone_width = {width}: of {name}, it must be a multiple of 4, for rotary positions")
    else:  # the published pretraining stretches the coordinates of positions at random
        config = DINOv3ViTConfig(num_register_tokens=4, pos_embed_rescale=None, **shape, **wide)
    return ViT(config, name=name, last_stride=last_stride, width=width)
