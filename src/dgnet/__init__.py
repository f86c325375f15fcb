"""dgnet: person re-identification trained together with a generator (DG-Net, Zheng et al., CVPR 2019)."""

__version__ = "0.2.0"
