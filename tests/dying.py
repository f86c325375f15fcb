"""`dgnet`, of which the second process is killed in iteration 3, unless torchrun has started it again."""

from __future__ import annotations

import os
import signal
from typing import Any

from dgnet.cli import main
from dgnet.train.step import JointStep

if os.environ["RANK"] == "1" and os.environ["TORCHELASTIC_RESTART_COUNT"] == "0":
    step = JointStep.__call__

    def killed(self: JointStep, *batch: Any) -> Any:
        if batch[-1] == 3:
            os.kill(os.getpid(), signal.SIGKILL)
        return step(self, *batch)

    JointStep.__call__ = killed  # type: ignore[method-assign]

if __name__ == "__main__":
    main()
