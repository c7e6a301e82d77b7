"""Writes half_unet.onnx: a UNet in name only, with the half-precision scalar timestep of optimum's fp16 exports.

The noise is the sample times (1 + timestep / 1000); the timestep goes through the prologue of every export,
Unsqueeze and Expand. With --wrong the prologue also takes the batch's first timestep for all.
"""

import sys

import numpy as np
from onnx import TensorProto, helper, numpy_helper, save

F16 = TensorProto.FLOAT16


def const(name, values, dtype):
    return numpy_helper.from_array(np.array(values, dtype), name)


wrong = "--wrong" in sys.argv
nodes = [
    helper.make_node("Unsqueeze", ["timestep", "axes"], ["vector"]),
    helper.make_node("Expand", ["vector", "two"], ["expanded"]),
    helper.make_node("Slice", ["expanded", "zero", "one_i", "zero"], ["first"]) if wrong else helper.make_node("Identity", ["expanded"], ["first"]),
    helper.make_node("Reshape", ["first", "column"], ["t"]),
    helper.make_node("Div", ["t", "thousand"], ["scaled"]),
    helper.make_node("Add", ["scaled", "one"], ["factor"]),
    helper.make_node("Mul", ["sample", "factor"], ["out_sample"]),
]
graph = helper.make_graph(
    nodes,
    "unet",
    [
        helper.make_tensor_value_info("sample", F16, ["b", 4, "h", "w"]),
        helper.make_tensor_value_info("timestep", F16, []),
        helper.make_tensor_value_info("encoder_hidden_states", F16, ["b", "s", 32]),
    ],
    [helper.make_tensor_value_info("out_sample", F16, ["b", 4, "h", "w"])],
    [
        const("axes", [0], np.int64), const("two", [2], np.int64), const("column", [-1, 1, 1, 1], np.int64),
        const("zero", [0], np.int64), const("one_i", [1], np.int64),
        const("thousand", 1000, np.float16), const("one", 1, np.float16),
    ],
)
save(helper.make_model(graph, ir_version=8, opset_imports=[helper.make_opsetid("", 17)]), sys.argv[1])
