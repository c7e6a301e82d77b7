"""Exports a trained demo model to ONNX in the layout of optimum.

Weights are stored in half precision behind Cast nodes and computed in float32: half the size at no cost in
speed, because ONNX Runtime folds the casts when it loads the model.
"""

import argparse
import json
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import torch
from diffusers import UNet2DConditionModel
from onnx import TensorProto, helper, numpy_helper
from torch import Tensor, nn
from transformers import CLIPTextModel

from autoencoder import LATENT_CHANNELS, WIDTH, PatchAutoencoder
from diffusion import LATENT_SIZE, TEXT_WIDTH, make_scheduler
from shapes import RESOLUTION
from tokenizer import CONTEXT_LENGTH

OPSET = 17
MODEL_FILE = "model.onnx"
PRODUCER = "imgus"

SMALLEST_HALVED = 256
"""Tensors with fewer elements stay in float32: a Cast node would cost about what it saves."""

MACHINE_KEYS = frozenset({"transformers_version", "torch_dtype", "dtype", "_attn_implementation_autoset"})
"""Keys of a configuration that describe the machine that trained, not the model; so does each `_name...`."""

Axes = dict[int, str]
BATCH: Axes = {0: "batch_size"}
TOKENS: Axes = {0: "batch_size", 1: "sequence_length"}
PIXELS: Axes = {0: "batch_size", 2: "height", 3: "width"}
LATENTS: Axes = {0: "batch_size", 2: "latent_height", 3: "latent_width"}


# Each wrapper makes a component a module from tensors to tensors, with the inputs and outputs of optimum.


class TextEncoder(nn.Module):
    def __init__(self, model: CLIPTextModel) -> None:
        super().__init__()
        self.model = model

    def forward(self, tokens: Tensor) -> tuple[Tensor, Tensor]:
        output = self.model(tokens)
        return output.last_hidden_state, output.pooler_output


class UNet(nn.Module):
    def __init__(self, model: UNet2DConditionModel) -> None:
        super().__init__()
        self.model = model

    def forward(self, latents: Tensor, timesteps: Tensor, context: Tensor) -> Tensor:
        return self.model(latents, timesteps, context).sample


class Encoder(nn.Module):
    """Returns mean and log variance side by side, as optimum does: whoever runs it draws the latents."""

    def __init__(self, model: PatchAutoencoder) -> None:
        super().__init__()
        self.model = model

    def forward(self, pictures: Tensor) -> Tensor:
        return self.model.encoder(pictures)


class Decoder(nn.Module):
    def __init__(self, model: PatchAutoencoder) -> None:
        super().__init__()
        self.model = model

    def forward(self, latents: Tensor) -> Tensor:
        return self.model.decode(latents)


@dataclass(frozen=True)
class Component:
    """One ONNX file: the module, an example of its inputs, and names and dynamic axes, in order."""

    module: nn.Module
    example: tuple[Tensor, ...]
    inputs: dict[str, Axes]
    outputs: dict[str, Axes]


def make_components(
    text_encoder: CLIPTextModel, unet: UNet2DConditionModel, autoencoder: PatchAutoencoder
) -> dict[str, Component]:
    """Returns the components by folder. The timestep is a vector: each row of a batch may be at its own."""
    latents = torch.randn(1, LATENT_CHANNELS, LATENT_SIZE, LATENT_SIZE)
    return {
        "text_encoder": Component(
            TextEncoder(text_encoder),
            (torch.zeros(2, CONTEXT_LENGTH, dtype=torch.long),),
            {"input_ids": TOKENS},
            {"last_hidden_state": BATCH, "pooler_output": BATCH},
        ),
        "unet": Component(
            UNet(unet),
            (
                latents.repeat(2, 1, 1, 1),
                torch.tensor([1.0, 2.0]),
                torch.randn(2, CONTEXT_LENGTH, TEXT_WIDTH),
            ),
            {"sample": PIXELS, "timestep": BATCH, "encoder_hidden_states": TOKENS},
            {"out_sample": PIXELS},
        ),
        "vae_encoder": Component(
            Encoder(autoencoder),
            (torch.randn(1, 3, RESOLUTION, RESOLUTION),),
            {"sample": PIXELS},
            {"latent_parameters": LATENTS},
        ),
        "vae_decoder": Component(
            Decoder(autoencoder), (latents,), {"latent_sample": LATENTS}, {"sample": PIXELS}
        ),
    }


@torch.no_grad()
def export_component(component: Component, path: Path) -> None:
    """Writes a component in float32."""
    torch.onnx.export(
        component.module,
        component.example,
        str(path),
        input_names=list(component.inputs),
        output_names=list(component.outputs),
        dynamic_axes=component.inputs | component.outputs,
        opset_version=OPSET,
        do_constant_folding=True,
        dynamo=False,
    )


def halve_weights(path: Path) -> None:
    """Rewrites a model with its large weights in half precision, and without what only a debugger reads."""
    model = onnx.load(path)
    graph = model.graph
    weights: list[TensorProto] = []
    for weight in list(graph.initializer):
        if weight.data_type != TensorProto.FLOAT or np.prod(weight.dims) < SMALLEST_HALVED:
            weights.append(weight)
            continue
        half = numpy_helper.from_array(
            numpy_helper.to_array(weight).astype(np.float16), f"{weight.name}.half"
        )
        weights.append(half)
        cast = helper.make_node(
            "Cast", [half.name], [weight.name], name=f"widen.{weight.name}", to=TensorProto.FLOAT
        )
        graph.node.insert(0, cast)
    del graph.initializer[:]
    graph.initializer.extend(weights)
    del graph.value_info[:]
    for node in graph.node:
        node.doc_string = ""
    model.doc_string = ""
    model.producer_name = PRODUCER
    onnx.checker.check_model(model)
    onnx.save(model, path)


def write_json(path: Path, content: dict[str, Any]) -> None:
    path.write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")


def portable_config(path: Path) -> dict[str, Any]:
    """Reads a component's configuration, without what describes the machine that trained it."""
    config = json.loads(path.read_text(encoding="utf-8"))
    return {
        key: value for key, value in config.items() if not key.startswith("_name") and key not in MACHINE_KEYS
    }


def write_configs(source: Path, target: Path, scaling_factor: float) -> None:
    """Writes the configurations that Stable Diffusion's loaders read."""
    write_json(target / "text_encoder" / "config.json", portable_config(source / "text" / "config.json"))
    write_json(target / "unet" / "config.json", portable_config(source / "unet" / "config.json"))
    autoencoder = {
        "_class_name": "AutoencoderKL",
        "block_out_channels": [WIDTH] * 4,  # readers take the scale from the length: 2 ** (4 - 1) = 8
        "in_channels": 3,
        "out_channels": 3,
        "latent_channels": LATENT_CHANNELS,
        "sample_size": RESOLUTION,
        "scaling_factor": scaling_factor,
        "force_upcast": False,
    }
    for name in ("vae_encoder", "vae_decoder"):
        write_json(target / name / "config.json", autoencoder)
    make_scheduler().save_pretrained(target / "scheduler")
    pipeline = {
        "_class_name": "StableDiffusionPipeline",
        "feature_extractor": [None, None],
        "requires_safety_checker": False,
        "safety_checker": [None, None],
        "scheduler": ["diffusers", "EulerDiscreteScheduler"],
        "text_encoder": ["transformers", "CLIPTextModel"],
        "tokenizer": ["transformers", "CLIPTokenizer"],
        "unet": ["diffusers", "UNet2DConditionModel"],
        "vae_encoder": ["diffusers", "AutoencoderKL"],
        "vae_decoder": ["diffusers", "AutoencoderKL"],
    }
    write_json(target / "model_index.json", pipeline)


def empty_folder(path: Path) -> Path:
    """Makes a folder, or makes it anew."""
    shutil.rmtree(path, ignore_errors=True)
    path.mkdir(parents=True)
    return path


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description="Exports a trained demo model to ONNX. Other files in --dst, such as model.yaml, stay.",
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
    )
    parser.add_argument("--src", type=Path, default=Path("out"), help="folder that train.py wrote")
    parser.add_argument("--dst", type=Path, default=Path("demo"), help="folder for the model")
    return parser.parse_args()


def main() -> None:
    arguments = parse_arguments()
    source: Path = arguments.src
    target: Path = arguments.dst

    # Eager attention: the tracer writes it as plain matrix products, which every runtime has.
    text_encoder = CLIPTextModel.from_pretrained(source / "text", attn_implementation="eager").eval()
    unet = UNet2DConditionModel.from_pretrained(source / "unet").eval()
    autoencoder = PatchAutoencoder().eval()
    autoencoder.load_state_dict(torch.load(source / "vae.pt"))
    for module in (text_encoder, unet, autoencoder):
        module.requires_grad_(False)

    for name, component in make_components(text_encoder, unet, autoencoder).items():
        path = empty_folder(target / name) / MODEL_FILE
        export_component(component, path)
        halve_weights(path)
        print(f"{name}: {path.stat().st_size} bytes", flush=True)
    shutil.copytree(source / "tokenizer", empty_folder(target / "tokenizer"), dirs_exist_ok=True)
    write_configs(source, target, autoencoder.scaling_factor.item())


if __name__ == "__main__":
    main()
