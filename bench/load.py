"""Loads one ONNX model with ONNX Runtime's Python package: prints the seconds it took and the peak memory in MiB."""

import resource
import sys
import time

import onnxruntime


def main() -> None:
    start = time.perf_counter()
    session = onnxruntime.InferenceSession(sys.argv[1], providers=["CPUExecutionProvider"])
    took = time.perf_counter() - start
    print(f"{took:.2f} {resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024}")
    del session


if __name__ == "__main__":
    main()
