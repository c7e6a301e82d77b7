"""Merges a LoRA into the weights of a pipeline, so that an export has both."""

import argparse
from pathlib import Path

from diffusers import DiffusionPipeline


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("pipeline", type=Path, help="folder in diffusers' layout")
    parser.add_argument("lora", type=Path, help="the LoRA's .safetensors file")
    parser.add_argument("out", type=Path, help="folder for the merged pipeline")
    parser.add_argument("--scale", type=float, default=1.0, help="how much of the LoRA")
    arguments = parser.parse_args()
    pipeline = DiffusionPipeline.from_pretrained(arguments.pipeline)
    pipeline.load_lora_weights(arguments.lora.parent, weight_name=arguments.lora.name)
    pipeline.fuse_lora(lora_scale=arguments.scale)
    pipeline.unload_lora_weights()
    pipeline.save_pretrained(arguments.out)


if __name__ == "__main__":
    main()
