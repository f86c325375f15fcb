"""dgnet: person re-identification trained together with a generator (DG-Net, Zheng et al., CVPR 2019).

    model = dgnet.load("runs/joint")
    features = model.embed(["anna.jpg", "carl.jpg"])  # [2, D], rows of length 1

torch takes seconds to import, so what needs it is imported when it is first asked for.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from dgnet.errors import UserError as UserError
    from dgnet.model import Model as Model
    from dgnet.model import load as load

__version__ = "0.2.0"
__all__ = ["Model", "UserError", "__version__", "load"]


def __getattr__(name: str) -> object:
    if name in ("Model", "load"):
        from dgnet import model

        return getattr(model, name)
    if name == "UserError":
        from dgnet.errors import UserError

        return UserError
    raise AttributeError(f"module 'dgnet' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
