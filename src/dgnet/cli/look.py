"""`dgnet report`, `dgnet serve`: what came of a run, and what a model does, as pages."""

from __future__ import annotations

from pathlib import Path

from tyro.conf import Positional

from dgnet.cli.common import Weights, written


def report(runs: Positional[tuple[Path, ...]], out: Path | None = None, device: str = "auto") -> int:
    """The HTML report of a run at any time, also while it trains; of several runs, their curves on one chart.

    Args:
        runs: folders of runs, of joint training or of teachers
        out: file to write; by default report.html in the run's folder, or of several runs in this one
        device: auto, cpu, cuda or cuda:N
    """
    from dgnet.run_report import write_run_report

    return written(write_run_report(runs, out, device))


def serve(
    weights: Weights,
    gallery: str | None = None,
    images: tuple[Path, ...] = (),
    host: str = "127.0.0.1",
    port: int = 8000,
    device: str = "auto",
) -> int:
    """A page on this machine: swap two photos, go from one to the other, search, see where a match comes from.

    Args:
        weights: a run folder, model.safetensors or teacher.safetensors
        gallery: gallery to search: its folder, or qdrant://host:port/name
        images: instead, folders of photos to search; they are embedded first
        host: address to listen at; by default this machine's own, which nobody else reaches
        port: of that address; 0 for any that is free
        device: auto, cpu, cuda or cuda:N
    """
    from dgnet.model import load
    from dgnet.serve.app import serve as run

    run(load(weights, device), gallery, images, host, port)
    return 0
