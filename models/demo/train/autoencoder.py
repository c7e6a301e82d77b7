"""The autoencoder: pictures to latents and back, each side 8 times smaller, as in Stable Diffusion.

All layers but the last two work on patches of 8 x 8 pixels, so that it trains in minutes on a CPU.
"""

import random

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from budget import set_learning_rate, steps_within
from shapes import sample_batch

PATCH = 8
LATENT_CHANNELS = 4
WIDTH = 96
"""Channels of the hidden layers."""

ENCODER_BLOCKS = 2
DECODER_BLOCKS = 3
PIXEL_WIDTH = 16
"""Channels of the one hidden layer at full resolution, which smooths the seams between patches."""

LOG_VARIANCE_RANGE = (-20.0, 4.0)

BATCH_SIZE = 12
PEAK_RATE = 2e-3
WARMUP_STEPS = 50
KL_WEIGHT = 3e-4
MAX_GRADIENT_NORM = 1.0
REPORT_EVERY = 50

SCALE_PICTURES = 64
SCALE_SEED = 6


class ResidualBlock(nn.Module):
    """A residual block that starts as the identity, which makes the first steps stable without tuning."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.norm = nn.GroupNorm(8, channels)
        self.spatial = nn.Conv2d(channels, channels, 3, padding=1)
        self.pointwise = nn.Conv2d(channels, channels, 1)
        for parameter in self.pointwise.parameters():
            nn.init.zeros_(parameter)

    def forward(self, x: Tensor) -> Tensor:
        return x + self.pointwise(F.silu(self.spatial(F.silu(self.norm(x)))))


class PatchAutoencoder(nn.Module):
    """A variational autoencoder on patches, with the interfaces of AutoencoderKL.

    Pictures are (batch, 3, height, width) in [-1, 1]; latents are (batch, 4, height / 8, width / 8).
    Multiplied by scaling_factor, latents have a variance of about 1, which the diffusion process expects.
    """

    scaling_factor: Tensor

    def __init__(self) -> None:
        super().__init__()
        patch_channels = 3 * PATCH**2
        self.encoder = nn.Sequential(
            nn.PixelUnshuffle(PATCH),
            nn.Conv2d(patch_channels, WIDTH, 3, padding=1),
            *[ResidualBlock(WIDTH) for _ in range(ENCODER_BLOCKS)],
            nn.SiLU(),
            nn.Conv2d(WIDTH, 2 * LATENT_CHANNELS, 1),
        )
        self.decoder = nn.Sequential(
            nn.Conv2d(LATENT_CHANNELS, WIDTH, 3, padding=1),
            *[ResidualBlock(WIDTH) for _ in range(DECODER_BLOCKS)],
            nn.SiLU(),
            nn.Conv2d(WIDTH, patch_channels, 3, padding=1),
            nn.PixelShuffle(PATCH),
            nn.Conv2d(3, PIXEL_WIDTH, 3, padding=1),
            nn.SiLU(),
            nn.Conv2d(PIXEL_WIDTH, 3, 3, padding=1),
        )
        self.register_buffer("scaling_factor", torch.ones(()))

    def encode(self, pictures: Tensor) -> tuple[Tensor, Tensor]:
        """Returns mean and log variance of the latents, not scaled."""
        mean, log_variance = self.encoder(pictures).chunk(2, dim=1)
        return mean, log_variance.clamp(*LOG_VARIANCE_RANGE)

    def decode(self, latents: Tensor) -> Tensor:
        """Returns pictures from latents that are not scaled."""
        return self.decoder(latents)


def sample_latents(mean: Tensor, log_variance: Tensor) -> Tensor:
    """Draws latents from the distribution that encode returned."""
    return mean + torch.randn_like(mean) * (0.5 * log_variance).exp()


def edge_difference(output: Tensor, target: Tensor) -> Tensor:
    """Mean error of the differences between neighbours, which punishes blurred outlines."""
    across = output[..., 1:] - output[..., :-1] - target[..., 1:] + target[..., :-1]
    down = output[:, :, 1:] - output[:, :, :-1] - target[:, :, 1:] + target[:, :, :-1]
    return across.abs().mean() + down.abs().mean()


def train_autoencoder(autoencoder: PatchAutoencoder, rng: random.Random, seconds: float) -> None:
    """Trains on fresh pictures until the time is over, then measures the scaling factor."""
    optimizer = torch.optim.AdamW(autoencoder.parameters(), PEAK_RATE, betas=(0.9, 0.98), weight_decay=1e-4)
    for step, elapsed in steps_within(seconds):
        set_learning_rate(optimizer, PEAK_RATE, WARMUP_STEPS, step, elapsed, seconds)
        pictures, _ = sample_batch(BATCH_SIZE, rng)
        mean, log_variance = autoencoder.encode(pictures)
        output = autoencoder.decode(sample_latents(mean, log_variance))

        edges = edge_difference(output, pictures)
        absolute = (output - pictures).abs().mean()
        kl = 0.5 * (mean * mean + log_variance.exp() - 1 - log_variance).mean()
        squared = ((output - pictures) ** 2).mean()
        loss = absolute + squared + edges + KL_WEIGHT * kl

        optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(autoencoder.parameters(), MAX_GRADIENT_NORM)
        optimizer.step()
        if step % REPORT_EVERY == 0:
            parts = f"absolute {absolute.item():.4f} edges {edges.item():.4f} kl {kl.item():.2f}"
            print(f"autoencoder: step {step + 1}, {elapsed:.0f} s: {parts}", flush=True)
    measure_scaling_factor(autoencoder)


@torch.no_grad()
def measure_scaling_factor(autoencoder: PatchAutoencoder) -> None:
    """Sets the scaling factor to one over the standard deviation of the latents of fixed pictures."""
    pictures, _ = sample_batch(SCALE_PICTURES, random.Random(SCALE_SEED))
    mean, _ = autoencoder.encode(pictures)
    autoencoder.scaling_factor.copy_(1 / mean.std())
