"""The denoiser: CLIP's text encoder and a UNet, Stable Diffusion's own classes; how it learns and draws."""

import copy
import random
from collections.abc import Callable

import torch
from diffusers import EulerDiscreteScheduler, UNet2DConditionModel
from torch import Tensor, nn
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTokenizer

from autoencoder import LATENT_CHANNELS, PATCH, PatchAutoencoder, sample_latents
from budget import set_learning_rate, steps_within
from shapes import RESOLUTION, sample_batch
from tokenizer import CONTEXT_LENGTH, tokenize

LATENT_SIZE = RESOLUTION // PATCH
TEXT_WIDTH = 96
"""Width of the text encoder's hidden states, which the UNet attends to."""

# Stable Diffusion's noise schedule: scaled-linear betas.
TRAIN_TIMESTEPS = 1000
BETA_START = 0.00085
BETA_END = 0.012

ENCODE_BATCH = 64
BATCH_SIZE = 48
PEAK_RATE = 1.2e-3
WARMUP_STEPS = 100
MAX_GRADIENT_NORM = 1.0
EMPTY_CAPTION_SHARE = 0.1
"""Share of captions made empty, which classifier-free guidance needs (Ho and Salimans, 2022)."""

MIN_SNR_GAMMA = 5.0
"""Limit on the signal-to-noise ratio in the loss's weight (Hang et al., 2023, "Min-SNR")."""

MAX_AVERAGE_DECAY = 0.998
REPORT_EVERY = 25
PREVIEW_SECONDS = 600

SAMPLE_STEPS = 20
SAMPLE_GUIDANCE = 3.0
SAMPLE_SEED = 1


class Denoiser(nn.Module):
    """Predicts the noise in latents from the timestep and the caption's tokens."""

    def __init__(self, unet: UNet2DConditionModel, text_encoder: CLIPTextModel) -> None:
        super().__init__()
        self.unet = unet
        self.text_encoder = text_encoder

    def encode_text(self, tokens: Tensor) -> Tensor:
        """Returns the hidden states, (batch, CONTEXT_LENGTH, TEXT_WIDTH)."""
        return self.text_encoder(tokens).last_hidden_state

    def forward(self, latents: Tensor, timesteps: Tensor, tokens: Tensor) -> Tensor:
        return self.unet(latents, timesteps, self.encode_text(tokens)).sample


def make_denoiser(vocabulary_size: int) -> Denoiser:
    """Builds an untrained denoiser. Two UNet blocks: sizes of pictures are multiples of 16."""
    end_of_text = vocabulary_size - 1
    text_encoder = CLIPTextModel(
        CLIPTextConfig(
            vocab_size=vocabulary_size,
            hidden_size=TEXT_WIDTH,
            intermediate_size=256,
            num_hidden_layers=3,
            num_attention_heads=4,
            max_position_embeddings=CONTEXT_LENGTH,
            bos_token_id=end_of_text - 1,
            eos_token_id=end_of_text,
            pad_token_id=end_of_text,
            hidden_act="quick_gelu",
            projection_dim=TEXT_WIDTH,
        )
    )
    unet = UNet2DConditionModel(
        sample_size=LATENT_SIZE,
        in_channels=LATENT_CHANNELS,
        out_channels=LATENT_CHANNELS,
        down_block_types=("CrossAttnDownBlock2D", "CrossAttnDownBlock2D"),
        up_block_types=("CrossAttnUpBlock2D", "CrossAttnUpBlock2D"),
        block_out_channels=(64, 128),
        layers_per_block=1,
        cross_attention_dim=TEXT_WIDTH,
        attention_head_dim=4,
        norm_num_groups=16,
    )
    return Denoiser(unet, text_encoder)


def make_scheduler() -> EulerDiscreteScheduler:
    """Returns the scheduler that the model is exported with."""
    return EulerDiscreteScheduler(
        num_train_timesteps=TRAIN_TIMESTEPS,
        beta_start=BETA_START,
        beta_end=BETA_END,
        beta_schedule="scaled_linear",
        timestep_spacing="leading",
        steps_offset=1,
    )


@torch.no_grad()
def encode_data_set(
    autoencoder: PatchAutoencoder, tokenizer: CLIPTokenizer, count: int, rng: random.Random
) -> tuple[Tensor, Tensor]:
    """Draws and encodes the data set once, so that the UNet's time goes into the UNet alone.

    Returns scaled latents, (count, 4, 16, 16), and token identifiers, (count, 77).
    """
    latents: list[Tensor] = []
    tokens: list[Tensor] = []
    for start in range(0, count, ENCODE_BATCH):
        pictures, captions = sample_batch(min(ENCODE_BATCH, count - start), rng)
        latents.append(sample_latents(*autoencoder.encode(pictures)) * autoencoder.scaling_factor)
        tokens.append(tokenize(tokenizer, captions))
    return torch.cat(latents), torch.cat(tokens)


def train_denoiser(
    denoiser: Denoiser,
    latents: Tensor,
    tokens: Tensor,
    empty: Tensor,
    seconds: float,
    preview: Callable[[Denoiser, int], None],
) -> tuple[Denoiser, int]:
    """Trains until the time is over. Returns the running average of the weights, and the number of steps.

    The average draws better than the last weights. latents and tokens are the data set, empty is the empty
    caption's tokens, (77,). preview is called now and then with the average and the number of steps.
    """
    parameters = list(denoiser.parameters())
    optimizer = torch.optim.AdamW(parameters, PEAK_RATE, weight_decay=1e-3)
    betas = torch.linspace(BETA_START**0.5, BETA_END**0.5, TRAIN_TIMESTEPS) ** 2
    signal_share = (1 - betas).cumprod(0)
    average = copy.deepcopy(denoiser).eval()
    steps = 0
    next_preview = PREVIEW_SECONDS

    for step, elapsed in steps_within(seconds):
        set_learning_rate(optimizer, PEAK_RATE, WARMUP_STEPS, step, elapsed, seconds)
        rows = torch.randint(0, len(latents), (BATCH_SIZE,))
        clean, caption = latents[rows], tokens[rows]
        caption[torch.rand(BATCH_SIZE) < EMPTY_CAPTION_SHARE] = empty
        timesteps = torch.randint(0, TRAIN_TIMESTEPS, (BATCH_SIZE,))
        noise = torch.randn_like(clean)
        share = signal_share[timesteps].view(-1, 1, 1, 1)
        noisy = share.sqrt() * clean + (1 - share).sqrt() * noise

        errors = ((denoiser(noisy, timesteps, caption) - noise) ** 2).mean((1, 2, 3))
        loss = (errors * min_snr_weight(signal_share[timesteps])).mean()
        optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(parameters, MAX_GRADIENT_NORM)
        optimizer.step()
        steps = step + 1
        update_average(average, denoiser, steps)

        if steps % REPORT_EVERY == 0:
            parts = f"error {errors.mean().item():.4f} loss {loss.item():.4f}"
            print(f"denoiser: step {steps}, {elapsed:.0f} s: {parts}", flush=True)
        if elapsed > next_preview:
            preview(average, steps)
            next_preview += PREVIEW_SECONDS
    return average, steps


def min_snr_weight(signal_share: Tensor) -> Tensor:
    """Weights of timesteps for a model that predicts noise: the nearly clean ones count less."""
    snr = signal_share / (1 - signal_share)
    return torch.minimum(snr, torch.tensor(MIN_SNR_GAMMA)) / snr


@torch.no_grad()
def update_average(average: Denoiser, denoiser: Denoiser, steps: int) -> None:
    """Moves the average towards the weights; fast at first, so that it forgets where they began."""
    decay = min(MAX_AVERAGE_DECAY, (steps + 1) / (steps + 10))
    for mean, current in zip(average.parameters(), denoiser.parameters(), strict=True):
        mean.lerp_(current, 1 - decay)


@torch.no_grad()
def sample(
    denoiser: Denoiser, autoencoder: PatchAutoencoder, tokenizer: CLIPTokenizer, captions: list[str]
) -> Tensor:
    """Draws pictures, (captions, 3, RESOLUTION, RESOLUTION), with classifier-free guidance."""
    scheduler = make_scheduler()
    scheduler.set_timesteps(SAMPLE_STEPS)
    context = denoiser.encode_text(tokenize(tokenizer, [""] * len(captions) + captions))
    shape = (len(captions), LATENT_CHANNELS, LATENT_SIZE, LATENT_SIZE)
    noise = torch.randn(shape, generator=torch.Generator().manual_seed(SAMPLE_SEED))
    latents = noise * scheduler.init_noise_sigma
    for timestep in scheduler.timesteps:
        scaled = scheduler.scale_model_input(latents, timestep)
        free, captioned = denoiser.unet(torch.cat([scaled, scaled]), timestep, context).sample.chunk(2)
        noise = free + SAMPLE_GUIDANCE * (captioned - free)
        latents = scheduler.step(noise, timestep, latents).prev_sample
    return autoencoder.decode(latents / autoencoder.scaling_factor)
