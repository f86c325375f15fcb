"""Every number of a run, in frozen dataclasses: a docstring per field, read from YAML, checked, never written back to.

A preset (`dgnet/presets/*.yaml`) or a user's file is laid over the defaults, and dotted overrides over that:

    config = load("market1501", ["train.half_batch=4", "loss.teacher=0"])

The defaults are the published ones (Market-1501). Times are in iterations, sizes in pixels.
"""

from __future__ import annotations

from dgnet.config.data import Augmentation, Data
from dgnet.config.losses import METRICS, BaselineLoss, Loss, Metric, WarmUp
from dgnet.config.networks import Appearance, Decoder, Discriminator, Model, Structure
from dgnet.config.reading import explain, from_dict, load, presets, to_dict, to_yaml
from dgnet.config.run import Config, Evaluate
from dgnet.config.training import TeacherTraining, Train
from dgnet.config.values import (
    BACKBONES,
    GAN,
    BackboneName,
    Classifier,
    Feature,
    Fraction,
    Heads,
    Neck,
    Pool,
    Positive,
    Precision,
    Rate,
    Sampling,
    Schedule,
    TeacherStyle,
    Weight,
)

__all__ = [
    "BACKBONES",
    "GAN",
    "METRICS",
    "Appearance",
    "Augmentation",
    "BackboneName",
    "BaselineLoss",
    "Classifier",
    "Config",
    "Data",
    "Decoder",
    "Discriminator",
    "Evaluate",
    "Feature",
    "Fraction",
    "Heads",
    "Loss",
    "Metric",
    "Model",
    "Neck",
    "Pool",
    "Positive",
    "Precision",
    "Rate",
    "Sampling",
    "Schedule",
    "Structure",
    "TeacherStyle",
    "TeacherTraining",
    "Train",
    "WarmUp",
    "Weight",
    "explain",
    "from_dict",
    "load",
    "presets",
    "to_dict",
    "to_yaml",
]
