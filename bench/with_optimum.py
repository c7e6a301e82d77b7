"""Times the same job as BenchmarkJob/sd1 with optimum-onnx: prints nanoseconds per job."""

import argparse
import statistics
import time

import onnxruntime
import torch
from optimum.onnxruntime import ORTStableDiffusionPipeline


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", default="testdata/models/sd1")
    parser.add_argument("--jobs", type=int, default=30)
    parser.add_argument("--threads", type=int, default=0, help="within an operator; 0 lets ONNX Runtime choose")
    args = parser.parse_args()

    options = onnxruntime.SessionOptions()
    if args.threads:
        options.intra_op_num_threads = args.threads
    pipeline = ORTStableDiffusionPipeline.from_pretrained(args.model, session_options=options)
    pipeline.set_progress_bar_config(disable=True)

    def job() -> None:
        pipeline(
            "a small red circle on a blue background",
            num_inference_steps=20,
            guidance_scale=7.5,
            width=64,
            height=64,
            generator=torch.Generator().manual_seed(42),
        )

    job()
    times = []
    for _ in range(args.jobs):
        start = time.perf_counter_ns()
        job()
        times.append(time.perf_counter_ns() - start)
    print(int(statistics.median(times)))


if __name__ == "__main__":
    main()
