"""The numbers obtained by running the published implementation, and the weights and images that they belong to.

The format is described in tests/golden/README.md. `DGNET_GOLDEN` names another folder in the same format: every set has
the numbers at full weights, `golden.npz`, and those of the phases of the warm-ups, `golden_phases.npz`.
"""

from __future__ import annotations

import json
import os
import re
import zlib
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from dgnet import config as configuration
from dgnet.config import Config
from dgnet.models.dgnet import DGNet
from dgnet.models.teacher import Baseline, Teacher, build_baseline
from dgnet.weights import published

FOLDER = Path(os.environ.get("DGNET_GOLDEN") or Path(__file__).parent / "golden")
STYLES = ("soft", "hard", "appearance", "uniform", "two_labels")

full, phases = (dict(np.load(FOLDER / name)) for name in ("golden.npz", "golden_phases.npz"))
values: dict[str, np.ndarray] = full | phases
keys: dict[str, dict[str, list[int]]] = json.loads((FOLDER / "keys.json").read_text())
seed, classes = int(values["meta/seed"]), int(values["meta/classes"])
y_a, y_b = (torch.from_numpy(values[f"meta/labels_{half}"]) for half in "ab")
half_batch = len(y_a)
cases = sorted({name.split("/")[0] for name in values} - {"meta", "eval"})


def formula(name: str, key: str, shape: list[int]) -> Tensor:
    """The weight tensor `key` of the checkpoint `name`."""
    rs = np.random.RandomState((zlib.crc32(f"{name}/{key}".encode()) + seed) % 2**32)
    n = np.asarray(rs.standard_normal(shape))
    last = key.rsplit(".", 1)[-1]
    if last == "num_batches_tracked":
        return torch.tensor(0)
    if last == "running_mean":
        n = 0.1 * n
    elif last == "running_var":
        n = 1 + 0.1 * abs(n)
    elif len(shape) >= 2 and key.endswith("classifier.0.weight"):
        n = 0.05 * n
    elif len(shape) >= 2:
        n = n * np.sqrt(2 / np.prod(shape[1:])) * (0.2 if shape[0] == 1 else 1)
    elif len(shape) == 1 and last in ("weight", "gamma"):
        n = 1 + 0.1 * n
    else:
        n = 0.1 * n
    return torch.from_numpy(n.astype(np.float32)).double()


def checkpoint(name: str, listed_as: str | None = None) -> dict[str, Tensor]:
    """All tensors of the published checkpoint `name`, with the keys and shapes of `listed_as`."""
    return {key: formula(name, key, shape) for key, shape in keys[listed_as or name].items()}


def images() -> dict[str, Tensor]:
    """The normalised images xa, xb, xpa, xpb, each [B, 3, 256, 128], float64."""
    rs = np.random.RandomState(seed + 1)
    made = {}
    for name in ("xa", "xb", "xpa", "xpb"):
        low = rs.standard_normal((half_batch, 3, 16, 8))
        noise = rs.standard_normal((half_batch, 3, 256, 128))
        grown = np.kron(low, np.ones((1, 1, 16, 16)))
        made[name] = torch.from_numpy((0.9 * grown + 0.4 * noise).astype(np.float32)).double()
    return made


CASE = re.compile(
    r"(?P<gan>lsgan|nsgan|wgan)_(early|(?P<phase>tuned|ramp)_(?P<tuned>encoder|image))"
    r"(_style(?P<style>[0-4]))?(?P<erased>_erased)?"
)


def case_config(case: str) -> Config:
    """The configuration behind a case's name, such as `lsgan_tuned_encoder_style2`, `wgan_ramp_image` or `lsgan_early`.

    In `tuned`, the warm-ups are over; in `early` and `ramp` they are the published ones.

    Raises `ValueError` for a name that says more than is understood.
    """
    said = CASE.fullmatch(case)
    if said is None:
        raise ValueError(f"case {case}: expected {CASE.pattern}")
    width, mlp_width = (keys["gen"][key][0] for key in ("enc_content.model.0.conv.weight", "mlp_w1.model.0.fc.weight"))
    warm_up = {"start": 0, "per_iteration": 1000.0} if said["phase"] == "tuned" else {}
    return configuration.from_dict(
        {
            "model": {
                "structure": {"width": width},
                "decoder": {"mlp_width": mlp_width},
                "discriminator": {"kind": said["gan"], "width": keys["dis"]["cnns.0.0.conv.weight"][0]},
                "appearance": {"dropout": [0.0, 0.0], "weights": "scratch"},
            },
            "loss": {
                "tune_encoder": float(said["tuned"] != "image"),
                "teacher_style": STYLES[int(said["style"] or 0)],
                "warm_up": warm_up,
                "teacher_warm_up": warm_up,
            },
            "data": {"erasing": 0.5 if said["erased"] else 0.0},
            "train": {"half_batch": half_batch},
            "teacher": {"dropout": 0.0, "weights": "scratch"},
        }
    )


def iteration(case: str, number: int) -> int:
    """Which iteration of a training `itN` of a case is: recorded with phases, otherwise one past all warm-ups."""
    recorded = values.get(f"{case}/it{number}/iteration")
    return number + 2 if recorded is None else int(recorded)


def networks(config: Config) -> DGNet:
    """The four networks with the golden weights, float64."""
    net = DGNet(config, classes).double()
    critic = config.model.discriminator.kind == "wgan"
    tensors = {
        **published.from_published("gen", checkpoint("gen")),
        **published.from_published("id", checkpoint("id")),
        **published.from_published("dis", checkpoint("dis", "dis_wgan" if critic else "dis")),
    }
    net.load_state_dict(tensors)
    return net


def teacher(config: Config) -> Teacher:
    """The teacher with the golden weights, float64."""
    baseline: Baseline = build_baseline(config, classes).double()
    baseline.load_state_dict(published.from_published("teacher", checkpoint("teacher")))
    return Teacher([baseline])
