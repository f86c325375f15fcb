"""A part of a network as a file: ONNX, or a program of `torch.export`; with a batch of any size."""

from __future__ import annotations

import importlib
import json
import logging
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from dgnet.errors import UserError

OPSET = 18  # read by ONNX Runtime 1.14, OpenVINO 2023.0, TensorRT 8.6, and whatever is newer
TORCH_ENTRY = "dgnet.json"  # where a program of torch.export keeps what dgnet says of it


def traced(module: nn.Module, example: Sequence[Tensor]) -> torch.export.ExportedProgram:
    """The module as a graph of tensor operations, whose inputs' first dimension is free (and the same for all)."""
    batch = torch.export.Dim("batch", min=1)
    with torch.no_grad(), silent():
        return torch.export.export(module, tuple(example), dynamic_shapes=tuple({0: batch} for _ in example))


def write_torch(program: torch.export.ExportedProgram, path: Path, about: Mapping[str, Any]) -> None:
    """Write a program that `torch.export.load` reads, on machines with PyTorch and without dgnet."""
    with path.open("wb") as file, silent():
        torch.export.save(program, file, extra_files={TORCH_ENTRY: json.dumps(about)})


def write_onnx(
    program: torch.export.ExportedProgram,
    path: Path,
    inputs: Sequence[str],
    output: str,
    metadata: Mapping[str, str],
) -> None:
    """Write one ONNX file, weights inside, `metadata` in its properties. Raises UserError for a missing package."""
    require("onnx", "onnxscript")
    import onnx

    example, _ = program.example_inputs or ((), {})
    with torch.no_grad(), silent():
        made = torch.onnx.export(
            program.run_decompositions(_plain_operations()),
            tuple(example),
            input_names=list(inputs),
            output_names=[output],
            dynamic_shapes=tuple({0: torch.export.Dim("batch", min=1)} for _ in example),  # its name in the file
            opset_version=OPSET,
            dynamo=True,
            verbose=False,
        )
    assert made is not None
    model = made.model_proto
    for node in model.graph.node:
        del node.metadata_props[:]  # where each line of Python lies on this machine
        node.doc_string = ""
    onnx.helper.set_model_props(model, dict(metadata))
    model.producer_name = "dgnet"
    try:
        onnx.checker.check_model(model)
        path.write_bytes(model.SerializeToString())
    except ValueError as error:  # more than 2 GB do not fit into one file
        raise UserError(f"{path}: cannot be written as ONNX ({error})") from error


def require(*names: str) -> None:
    """Raises UserError, naming the extra, where one of these packages is not installed."""
    for name in names:
        try:
            importlib.import_module(name)
        except ImportError as error:
            raise UserError(f"{name} is not installed: pip install 'dgnet[export]'") from error


def _plain_operations() -> Any:
    """How operations are written that ONNX does not have: pooling into stripes becomes a maximum per stripe.

    Instance norm stays what it is in ONNX; PyTorch would make it a batch norm in training mode, which OpenVINO refuses.
    """
    table: Any = torch.export.default_decompositions()
    table.pop(torch.ops.aten.instance_norm.default, None)
    table[torch.ops.aten.adaptive_max_pool2d.default] = _maxima
    return table


def _maxima(x: Tensor, size: Sequence[int]) -> tuple[Tensor, Tensor]:
    """`adaptive_max_pool2d` by slices; of the places of the maxima, which nothing asks for, only the shape."""
    rows, columns = ([(i * side // count, -(-(i + 1) * side // count)) for i in range(count)]
                     for side, count in zip(x.shape[2:], size, strict=True))  # fmt: skip
    pooled = torch.stack([torch.stack([x[:, :, a:b, c:d].amax((2, 3)) for c, d in columns], 2) for a, b in rows], 2)
    return pooled, torch.zeros_like(pooled, dtype=torch.int64)


@contextmanager
def silent() -> Iterator[None]:
    """Inside, the exporters' remarks on PyTorch's own code, and on packages that are not needed, are not shown."""
    talkers = [logging.getLogger(name) for name in ("torch.onnx", "torch.export", "onnxscript", "onnx_ir")]
    levels = [talker.level for talker in talkers]
    try:
        for talker in talkers:
            talker.setLevel(logging.ERROR)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        for talker, level in zip(talkers, levels, strict=True):
            talker.setLevel(level)
