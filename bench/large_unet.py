"""Writes a UNet of Stable Diffusion 1.5's size with random weights, 3.4 GB in external data, as optimum exports it."""

import argparse
import shutil
import tempfile
from pathlib import Path

import onnx
import torch
from diffusers import UNet2DConditionModel

ATTENTION_DOWN = ("CrossAttnDownBlock2D",) * 3 + ("DownBlock2D",)
ATTENTION_UP = ("UpBlock2D",) + ("CrossAttnUpBlock2D",) * 3


class Flat(torch.nn.Module):
    """The UNet with a tuple in place of its output class."""

    def __init__(self, unet: torch.nn.Module) -> None:
        super().__init__()
        self.unet = unet

    def forward(self, sample: torch.Tensor, timestep: torch.Tensor, states: torch.Tensor) -> torch.Tensor:
        return self.unet(sample, timestep, states).sample


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("out", type=Path, help="folder for model.onnx and model.onnx_data")
    args = parser.parse_args()

    torch.manual_seed(0)
    unet = UNet2DConditionModel(
        sample_size=64,
        block_out_channels=(320, 640, 1280, 1280),
        down_block_types=ATTENTION_DOWN,
        up_block_types=ATTENTION_UP,
        attention_head_dim=8,
        cross_attention_dim=768,
    ).eval()
    unet.requires_grad_(False)
    batch = {0: "batch_size"}
    picture = {0: "batch_size", 2: "height", 3: "width"}
    args.out.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=args.out) as scratch:
        with torch.no_grad():
            torch.onnx.export(
                Flat(unet),
                (torch.randn(2, 4, 32, 32), torch.tensor(1.0), torch.randn(2, 77, 768)),
                f"{scratch}/model.onnx",
                input_names=["sample", "timestep", "encoder_hidden_states"],
                output_names=["out_sample"],
                dynamic_axes={"sample": picture, "encoder_hidden_states": {**batch, 1: "sequence_length"}, "out_sample": picture},
                opset_version=17,
                do_constant_folding=True,
                dynamo=False,
            )
        del unet
        model = onnx.load(f"{scratch}/model.onnx")
        onnx.save(model, f"{scratch}/whole.onnx", save_as_external_data=True, location="model.onnx_data", size_threshold=100)
        shutil.move(f"{scratch}/whole.onnx", args.out / "model.onnx")
        shutil.move(f"{scratch}/model.onnx_data", args.out / "model.onnx_data")


if __name__ == "__main__":
    main()
