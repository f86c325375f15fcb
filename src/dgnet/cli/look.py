"""`dgnet report`: what came of a run, as a page."""

from __future__ import annotations

from pathlib import Path

from tyro.conf import Positional

from dgnet.cli.common import written


def report(runs: Positional[tuple[Path, ...]], out: Path | None = None, device: str = "auto") -> int:
    """The HTML report of a run at any time, also while it trains; of several runs, their curves on one chart.

    Args:
        runs: folders of runs, of joint training or of teachers
        out: file to write; by default report.html in the run's folder, or of several runs in this one
        device: auto, cpu, cuda or cuda:N
    """
    from dgnet.run_report import write_run_report

    return written(write_run_report(runs, out, device))
