"""The three optimisers, one gradient scaler, mixed precision and the average over processes, behind two verbs.

`descend` takes one backward pass and steps the optimisers named; `finish` ends the iteration.
"""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import SGD, Adam, Optimizer

from dgnet.config import Precision, TeacherTraining, Train
from dgnet.models.backbones.protocol import Family
from dgnet.models.dgnet import DGNet
from dgnet.models.teacher import Baseline
from dgnet.train.distributed import Exchange
from dgnet.train.watch import Watch


class Optimizers:
    """A few named optimisers that share a device and a precision.

    fp16 has one loss scale for all of them, updated once per iteration by `finish`: several optimisers that step from
    one backward pass must not each move it.

    The optimisers are PyTorch's fused ones: a few launches each, and they do nothing once `watch` has tripped.
    """

    def __init__(self, optimizers: dict[str, Optimizer], precision: Precision, device: torch.device) -> None:
        self.by_name = optimizers
        self.base_rates = {name: [g["lr"] for g in o.param_groups] for name, o in optimizers.items()}
        self.device = device
        self.dtype = {"float32": None, "bfloat16": torch.bfloat16, "float16": torch.float16}[precision]
        self.scaler = torch.amp.GradScaler(device.type, enabled=self.dtype is torch.float16)
        self.stepped = False  # in this iteration
        self._added: tuple[str, ...] = ()  # whose gradients hold parts of a loss
        self.watch = Watch(device)
        parameters = {name: [p for g in o.param_groups for p in g["params"]] for name, o in optimizers.items()}
        self.exchange = Exchange(parameters)
        for optimizer in optimizers.values():
            _fuse(optimizer)

    def autocast(self) -> AbstractContextManager[Any]:
        """Mixed precision for the forward pass.

        Casts of weights aren't cached: one made without gradients, in a frozen or `no_grad` pass, would be taken in a
        later pass that needs them.
        """
        return torch.autocast(self.device.type, self.dtype, cache_enabled=False) if self.dtype else nullcontext()

    def full_precision(self) -> AbstractContextManager[Any]:
        """Inside `autocast`, a part that needs float32."""
        return torch.autocast(self.device.type, enabled=False) if self.dtype else nullcontext()

    def set_rates(self, factor: float) -> None:
        """Every learning rate becomes `factor` times its initial value."""
        for name, optimizer in self.by_name.items():
            for group, rate in zip(optimizer.param_groups, self.base_rates[name], strict=True):
                group["lr"] = rate * factor

    def add(self, loss: Tensor, *names: str) -> None:
        """Backward from a part of a loss; the next `descend`, of the same optimisers, takes its gradients along."""
        self._forget_others(names)
        self._added = names
        self.exchange.begin(())  # nothing is sent yet
        torch.autograd.backward(self.scaler.scale(loss))

    def _forget_others(self, names: tuple[str, ...]) -> None:
        """Gradients of these optimisers that no part of the loss at hand has given."""
        if self._added != names:
            for name in names:
                self.by_name[name].zero_grad(set_to_none=True)

    def descend(self, loss: Tensor, *names: str, iteration: int, terms: dict[str, Tensor]) -> None:
        """Backward from `loss`, gradients averaged over processes, then a step of each optimiser in `names`.

        An optimiser that nothing in `loss` teaches has no gradients, and no step. Nor is there one, then or later, if
        one of the `terms` that the loss is made of isn't finite in any process: `watch` tells.
        """
        chosen = [self.by_name[name] for name in names]
        self._forget_others(names)
        self._added = ()
        self.exchange.begin(names)
        torch.autograd.backward(self.scaler.scale(loss))
        self.watch.note(iteration, terms, self.exchange.finish(self.watch.look(terms)))
        for optimizer in chosen:
            if any(p.grad is not None for group in optimizer.param_groups for p in group["params"]):
                if not self.scaler.is_enabled():  # in fp16, it is the scaler that looks, at the gradients
                    optimizer.found_inf = self.watch.tripped  # type: ignore[attr-defined]
                self.scaler.step(optimizer)
                self.stepped = True

    def finish(self) -> None:
        """End of the iteration: move the loss scale (fp16)."""
        if self.stepped:
            self.scaler.update()
        self.stepped = False

    def state_dict(self) -> dict[str, Any]:
        return {"scaler": self.scaler.state_dict(), **{n: o.state_dict() for n, o in self.by_name.items()}}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.scaler.load_state_dict(state["scaler"])
        for name, optimizer in self.by_name.items():
            optimizer.load_state_dict(state[name])
            for parameter, values in optimizer.state.items():
                for key, value in values.items():
                    if value.shape == parameter.shape:  # in its memory format too, on which the speed of a step depends
                        values[key] = torch.empty_like(parameter).copy_(value)
            _fuse(optimizer)


def _fuse(optimizer: Optimizer) -> None:
    """Let an optimiser use its fused kernels.

    Those of SGD leave a momentum that is not yet there as whatever memory holds, if their first step is to do nothing.
    Momentum of zeros instead makes the same first step.
    """
    for group in optimizer.param_groups:
        group["fused"], group["foreach"] = True, False
        if group.get("momentum"):
            for parameter in group["params"]:
                state = optimizer.state[parameter]
                state["momentum_buffer"] = state.get("momentum_buffer", torch.zeros_like(parameter))
    optimizer._step_supports_amp_scaling = True  # type: ignore[attr-defined]


def joint_optimizers(net: DGNet, train: Train, device: torch.device) -> Optimizers:
    """Adam for E_s with G, Adam for D, SGD for E_a (its heads ten times as fast as its backbone, as published)."""
    adam: dict[str, Any] = {"lr": train.learning_rate, "betas": train.betas, "weight_decay": train.weight_decay}
    appearance = net.appearance
    groups = [
        *by_depth(appearance.backbone, train.backbone_learning_rate, train.layer_decay),
        {"params": learning(appearance.heads, appearance.pooling), "lr": train.head_learning_rate},
    ]
    return Optimizers(
        {
            "generator": Adam([*net.structure.parameters(), *net.decoder.parameters()], **adam),
            "discriminator": Adam(net.discriminator.parameters(), **adam),
            "identity": SGD(groups, momentum=train.momentum, nesterov=True, weight_decay=train.weight_decay),
        },
        train.precision,
        device,
    )


def teacher_optimizers(net: Baseline, config: TeacherTraining, device: torch.device) -> Optimizers:
    """SGD or Adam, the backbone at its share of the head's learning rate."""
    groups = [
        *by_depth(net.backbone, config.learning_rate * config.backbone_factor, config.layer_decay),
        {"params": learning(net.head, net.pooling), "lr": config.learning_rate},
    ]
    optimizer: Optimizer
    if config.optimizer == "adam":
        optimizer = Adam(groups, weight_decay=config.weight_decay)
    else:
        optimizer = SGD(groups, momentum=config.momentum, nesterov=True, weight_decay=config.weight_decay)
    return Optimizers({"teacher": optimizer}, config.precision, device)


def learning(*modules: nn.Module) -> list[nn.Parameter]:
    """Their parameters, but for those that never learn, such as the shift of a BNNeck."""
    return [p for module in modules for p in module.parameters() if p.requires_grad]


def by_depth(backbone: Family, rate: float, layer_decay: float) -> list[dict[str, Any]]:
    """Its parameters, for an optimiser: the last stage at the full rate, every one before at a share of the next one's.

    A share of 1: all of them as one group.
    """
    if layer_decay == 1:
        return [{"params": list(backbone.parameters()), "lr": rate}]
    from_the_end = enumerate(reversed(backbone.stages))
    return [{"params": list(stage.parameters()), "lr": rate * layer_decay**depth} for depth, stage in from_the_end]
