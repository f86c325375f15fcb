"""int8: a backbone's convolutions and products in eight bits, their ranges found on photos by ONNX Runtime."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from torch import Tensor

from dgnet.export.graph import require, silent

OPERATIONS = ["Conv", "MatMul"]  # heads are Gemm: one vector each, so nothing is gained, and every bit counts
BATCH = 8  # images that are calibrated on at once


def quantise(path: Path, names: Sequence[str], inputs: Sequence[Tensor], metadata: dict[str, str]) -> None:
    """Make the ONNX file at `path` one of int8 weights and activations, calibrated on `inputs` [N, ...] by their names.

    Weights have a scale per output channel, activations one per tensor; inputs, outputs and all else stay float32.
    """
    require("onnx", "onnxruntime")
    import onnx
    from onnxruntime import quantization
    from onnxruntime.quantization.shape_inference import quant_pre_process

    class Reader(quantization.CalibrationDataReader):  # type: ignore[misc]
        def __init__(self) -> None:
            self.batches = _batches(names, inputs)

        def get_next(self) -> dict[str, Any] | None:
            return next(self.batches, None)

    with tempfile.TemporaryDirectory() as folder, silent():
        ready, done = Path(folder, "ready.onnx"), Path(folder, "done.onnx")
        quant_pre_process(str(path), str(ready), skip_symbolic_shape=True)
        plain = onnx.load(str(ready))
        scaling = [node.name for node in plain.graph.node if node.op_type == "MatMul" and _scales(node, plain)]
        quantization.quantize_static(
            str(ready),
            str(done),
            Reader(),
            quant_format=quantization.QuantFormat.QDQ,
            op_types_to_quantize=OPERATIONS,
            nodes_to_exclude=scaling,
            per_channel=True,
            activation_type=quantization.QuantType.QUInt8,
            weight_type=quantization.QuantType.QInt8,
            extra_options={"ActivationSymmetric": False, "WeightSymmetric": True},
        )
        model = onnx.load(str(done))
        del model.metadata_props[:]
        onnx.helper.set_model_props(model, metadata)
        model.producer_name = "dgnet"
        path.write_bytes(model.SerializeToString())


def _batches(names: Sequence[str], inputs: Sequence[Tensor]) -> Iterator[dict[str, Any]]:
    for start in range(0, len(inputs[0]), BATCH):
        yield {name: rows[start : start + BATCH].numpy() for name, rows in zip(names, inputs, strict=True)}


def _scales(node: Any, model: Any) -> bool:
    """Whether a product scales pictures: before the network, and not to be rounded."""
    pictures = {given.name for given in model.graph.input}
    makers = {output: maker for maker in model.graph.node for output in maker.output}
    at = list(node.input)
    while at:
        name = at.pop()
        if name in pictures:
            return True
        if name in makers and makers[name].op_type == "MatMul":
            at += makers[name].input
    return False
