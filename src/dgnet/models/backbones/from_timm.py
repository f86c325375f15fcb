"""Any image network of the library timm (extra `timm`) as a backbone, `timm:NAME`, with timm's names below `model.`.

timm brings torchvision along, which does not exist for every build of PyTorch: so it is imported only here, when asked
for.
"""

from __future__ import annotations

from typing import Any

import torch.nn.functional as F
from torch import Tensor, nn

from dgnet.errors import UserError, nearest
from dgnet.models.backbones.scaling import Rescale
from dgnet.models.layers import BatchNorm1d, BatchNorm2d

_ANY_SIZE: tuple[dict[str, Any], ...] = (
    {"dynamic_img_size": True, "dynamic_img_pad": True},
    {"strict_img_size": False},
)
"""What makes timm's transformers take images of any size."""


class NormAct(BatchNorm2d):
    """timm's batch norm with what follows it, under the same names."""

    drop: nn.Module
    act: nn.Module

    def forward(self, x: Tensor) -> Tensor:
        return self.act(self.drop(super().forward(x)))  # type: ignore[no-any-return]


class FromTimm(nn.Module):
    """x [N, 3, H, W] -> map [N, channels, H / stride, W / stride]: what the network gives before its pooling.

    A network that ends at stride 32 does so with `last_stride` 2, and is built to end at 16 with 1. Any other, a
    transformer with patches of 16 pixels, say, is as timm has it with 1, and its map is averaged over 2 x 2 with 2.
    Raises `UserError` where timm is missing, knows no such network, or cannot build it so.
    """

    def __init__(self, name: str, *, last_stride: int = 1, width: int = 64) -> None:
        super().__init__()
        self.name, self.width = f"timm:{name}", width
        if width != 64:
            raise UserError(f"backbone_width = {width}: {self.name} has its width in the name; leave it at 64")
        self.model = _create(name)
        own = self.model.feature_info[-1]["reduction"]
        self.average = own != 32 and last_stride == 2
        self.stride = own * 2 if self.average else own
        if own == 32 and last_stride == 1:
            self.model, self.stride = _create(name, output_stride=16), 16
        self.channels: int = self.model.num_features
        known = self.model.pretrained_cfg
        self.rescale = Rescale(known["mean"], known["std"])
        _group(self.model)

    @property
    def stages(self) -> list[nn.Module]:
        """The network's parts in their order; of a part that is a row of blocks, the blocks."""
        parts: list[nn.Module] = []
        for part in self.model.children():
            blocks = list(part) if isinstance(part, nn.Sequential | nn.ModuleList) else [part]
            parts += [block for block in blocks if any(True for _ in block.parameters())]
        own = list(self.model.parameters(recurse=False))  # a class token, position embeddings
        return [nn.ParameterList(own), *parts] if own else parts

    def forward(self, x: Tensor) -> Tensor:
        features = self.model.forward_features(self.rescale(x))
        if features.ndim == 3:  # tokens: the patches behind whatever comes first
            patch = self.stride // (2 if self.average else 1)
            rows, columns = (-(-side // patch) for side in x.shape[2:])
            features = features[:, -rows * columns :].mT.unflatten(2, (rows, columns))
        elif getattr(self.model, "output_fmt", "NCHW") == "NHWC":
            features = features.permute(0, 3, 1, 2)
        return F.avg_pool2d(features, 2, ceil_mode=True) if self.average else features

    def published(self) -> dict[str, Tensor]:
        """The weights that timm fetches for this network, under our names. Raises `UserError` where it cannot."""
        model = _create(self.name.removeprefix("timm:"), pretrained=True)
        return {f"model.{key}": tensor for key, tensor in model.state_dict().items()}


def _create(name: str, **options: Any) -> Any:
    """A network of timm without classifier and pooling, which takes images of any size where it can."""
    try:
        import timm
    except ImportError as error:
        raise UserError(f"backbone timm:{name}: needs timm ({error}): pip install 'dgnet[timm]'") from error
    if not timm.is_model(name):
        near = nearest(name.partition(".")[0], timm.list_models())
        raise UserError(f"backbone timm:{name}: no network of timm" + (f"; did you mean timm:{near}?" if near else ""))
    options |= {"num_classes": 0, "global_pool": ""}
    try:
        for any_size in _ANY_SIZE:
            try:
                return timm.create_model(name, **any_size, **options)
            except TypeError:  # it has no such option
                continue
        model = timm.create_model(name, **options)
    except (TypeError, NotImplementedError, AssertionError) as error:
        if "output_stride" in options:
            raise UserError(f"backbone timm:{name}: cannot end at stride 16; take last_stride=2") from error
        raise UserError(f"backbone timm:{name}: cannot be built without its pooling ({error})") from error
    except (OSError, RuntimeError, ValueError) as error:
        reason = (str(error).strip() or repr(error)).splitlines()[0]
        raise UserError(f"backbone timm:{name}: its weights cannot be fetched ({reason})") from error
    if model.pretrained_cfg.get("fixed_input_size"):
        raise UserError(f"backbone timm:{name}: takes pictures of its own size only; choose another network")
    return model


def _group(net: nn.Module) -> None:
    """Make the batch norms in `net` ours, which know half-batches; weights and names stay. An unknown kind stays, and
    is refused where statistics are grouped."""
    for module in net.modules():
        if type(module) in (nn.BatchNorm1d, nn.BatchNorm2d):
            module.__class__ = BatchNorm1d if isinstance(module, nn.BatchNorm1d) else BatchNorm2d
        elif isinstance(module, nn.BatchNorm2d) and hasattr(module, "act") and hasattr(module, "drop"):
            module.__class__ = NormAct
