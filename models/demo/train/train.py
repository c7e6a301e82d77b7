"""Trains the demo model from nothing: tokenizer, then autoencoder, then text encoder and UNet together.

Writes, under --out, what export.py reads: tokenizer/, vae.pt, text/, unet/. And pictures to judge the run by:
data.png and vae.png, the same pictures before and after the autoencoder; sample-STEPS.png, drawn by the model
from captions.txt.
"""

import argparse
import random
from pathlib import Path

import torch
from torch import nn
from transformers import CLIPTokenizer

from autoencoder import PatchAutoencoder, train_autoencoder
from diffusion import Denoiser, encode_data_set, make_denoiser, sample, train_denoiser
from shapes import sample_batch, sample_caption, save_grid
from tokenizer import make_tokenizer, tokenize

SEED = 0
THREADS = 2
RECONSTRUCTION_PICTURES = 32
RECONSTRUCTION_SEED = 5
SAMPLE_CAPTIONS = 24
CAPTION_SEED = 9


def positive(text: str) -> int:
    """Parses a whole number above 0, for argparse."""
    number = int(text)
    if number < 1:
        raise ValueError("not above 0")
    return number


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description="Trains the demo model. The default times are those of the model in the repository.",
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
    )
    parser.add_argument("--out", type=Path, default=Path("out"), help="folder for weights and pictures")
    parser.add_argument("--vae-seconds", type=float, default=600, help="time to train the autoencoder")
    parser.add_argument("--seconds", type=float, default=3300, help="time to train text encoder and UNet")
    parser.add_argument("--pictures", type=positive, default=4096, help="size of the data set of the UNet")
    return parser.parse_args()


def parameter_count(module: nn.Module) -> int:
    return sum(parameter.numel() for parameter in module.parameters())


def load_or_train_autoencoder(path: Path, rng: random.Random, seconds: float) -> PatchAutoencoder:
    """Trains an autoencoder, or takes an earlier run's, so that the UNet can be trained again alone."""
    autoencoder = PatchAutoencoder()
    print(f"autoencoder: {parameter_count(autoencoder)} parameters", flush=True)
    if path.exists():
        print(f"autoencoder: taken from {path}", flush=True)
        autoencoder.load_state_dict(torch.load(path))
    else:
        train_autoencoder(autoencoder, rng, seconds)
        torch.save(autoencoder.state_dict(), path)
    print(f"autoencoder: scaling factor {autoencoder.scaling_factor.item():.4f}", flush=True)
    return autoencoder.eval()


@torch.no_grad()
def save_reconstructions(autoencoder: PatchAutoencoder, out: Path) -> None:
    pictures, _ = sample_batch(RECONSTRUCTION_PICTURES, random.Random(RECONSTRUCTION_SEED))
    mean, _ = autoencoder.encode(pictures)
    save_grid(autoencoder.decode(mean), out / "vae.png")
    save_grid(pictures, out / "data.png")


def save_denoiser(
    denoiser: Denoiser, autoencoder: PatchAutoencoder, tokenizer: CLIPTokenizer, out: Path, name: str
) -> None:
    """Writes the weights and sample-NAME.png: the same captions and noise each time, to compare."""
    denoiser.unet.save_pretrained(out / "unet")
    denoiser.text_encoder.save_pretrained(out / "text")
    rng = random.Random(CAPTION_SEED)
    captions = [sample_caption(rng)[0] for _ in range(SAMPLE_CAPTIONS)]
    (out / "captions.txt").write_text("\n".join(captions), encoding="utf-8")
    save_grid(sample(denoiser, autoencoder, tokenizer, captions), out / f"sample-{name}.png")


def main() -> None:
    arguments = parse_arguments()
    out: Path = arguments.out
    out.mkdir(parents=True, exist_ok=True)
    torch.manual_seed(SEED)
    torch.set_num_threads(THREADS)
    rng = random.Random(SEED)

    tokenizer = make_tokenizer(out / "tokenizer")
    print(f"tokenizer: {len(tokenizer)} tokens", flush=True)
    autoencoder = load_or_train_autoencoder(out / "vae.pt", rng, arguments.vae_seconds)
    save_reconstructions(autoencoder, out)

    denoiser = make_denoiser(len(tokenizer))
    unet_size, text_size = parameter_count(denoiser.unet), parameter_count(denoiser.text_encoder)
    print(f"denoiser: {unet_size} parameters in the UNet, {text_size} in the text encoder", flush=True)
    latents, tokens = encode_data_set(autoencoder, tokenizer, arguments.pictures, rng)
    print(f"denoiser: {len(latents)} pictures encoded", flush=True)

    def preview(average: Denoiser, steps: int) -> None:
        save_denoiser(average, autoencoder, tokenizer, out, str(steps))

    empty = tokenize(tokenizer, [""])[0]
    average, steps = train_denoiser(denoiser, latents, tokens, empty, arguments.seconds, preview)
    save_denoiser(average, autoencoder, tokenizer, out, "final")
    print(f"done: {steps} steps", flush=True)


if __name__ == "__main__":
    main()
