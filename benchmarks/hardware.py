"""What a result was measured on and of: date, commit, hardware, versions."""

from __future__ import annotations

import os
import platform
import subprocess
from datetime import date
from pathlib import Path
from typing import Any

import torch


def about(device: str) -> dict[str, Any]:
    """For the JSON file of a benchmark; a commit whose files have been changed since has a `+` behind it."""
    here = Path(__file__).parent

    def git(*words: str) -> str:
        try:
            return subprocess.run(["git", "-C", str(here), *words], capture_output=True, text=True).stdout.strip()
        except OSError:
            return ""

    changed = bool(git("status", "--porcelain", "--", "../src"))
    gpu = torch.cuda.get_device_name() if torch.cuda.is_available() and device != "cpu" else ""
    return {
        "date": date.today().isoformat(),
        "commit": (git("rev-parse", "--short", "HEAD") or "unknown") + "+" * changed,
        "device": gpu or "cpu",
        "processor": processor(),
        "cores": os.cpu_count(),
        "torch": torch.__version__,
        "python": platform.python_version(),
    }


def processor() -> str:
    """Its name, where Linux tells it."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        return next(line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    except (OSError, StopIteration):
        return platform.processor() or platform.machine()
