"""Makes tiny diffusers pipelines with random weights, but the structure and the vocabulary of the real ones, and draws
the picture that each should give: OUT/sd15, OUT/sdxl, OUT/sd15.png, OUT/sdxl.png. Also a LoRA for the first: OUT/lora,
OUT/sd15-lora.png."""

import argparse
import gzip
import json
import tempfile
from pathlib import Path

import diffusers
import torch
from peft import LoraConfig
from peft.utils import get_peft_model_state_dict
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTextModelWithProjection, CLIPTokenizer
from transformers.models.clip.tokenization_clip import bytes_to_unicode

MERGES = Path(__file__).resolve().parents[2] / "inference/tokenizer/testdata/merges.txt.gz"
PROMPT = "a lighthouse at dusk"
WIDTH = 32  # of the text encoders' hidden states


def tokenizer(folder: Path, pad: str) -> CLIPTokenizer:
    """CLIP's vocabulary: the bytes, the bytes at a word's end, the merges in order, two marks."""
    lines = gzip.decompress(MERGES.read_bytes()).decode().splitlines()
    letters = list(bytes_to_unicode().values())
    merged = ["".join(line.split()) for line in lines[1:] if line]
    words = letters + [c + "</w>" for c in letters] + merged + ["<|startoftext|>", "<|endoftext|>"]
    folder.mkdir(parents=True)
    (folder / "vocab.json").write_text(json.dumps({word: i for i, word in enumerate(words)}))
    (folder / "merges.txt").write_text("\n".join(lines) + "\n")
    return CLIPTokenizer(str(folder / "vocab.json"), str(folder / "merges.txt"), pad_token=pad, model_max_length=77)


def text_encoder(kind: type, activation: str) -> torch.nn.Module:
    return kind(
        CLIPTextConfig(
            hidden_size=WIDTH,
            intermediate_size=4 * WIDTH,
            projection_dim=WIDTH,
            num_hidden_layers=3,
            num_attention_heads=4,
            hidden_act=activation,
            bos_token_id=49406,
            eos_token_id=49407,
            pad_token_id=1,
        )
    )


def vae(scale: float) -> diffusers.AutoencoderKL:
    return diffusers.AutoencoderKL(
        block_out_channels=(8, 8, 16, 16),
        down_block_types=("DownEncoderBlock2D",) * 4,
        up_block_types=("UpDecoderBlock2D",) * 4,
        layers_per_block=1,
        norm_num_groups=4,
        sample_size=64,
        scaling_factor=scale,
    )


def sd15(scratch: Path) -> diffusers.StableDiffusionPipeline:
    attention = ("CrossAttnDownBlock2D",) * 3 + ("DownBlock2D",), ("UpBlock2D",) + ("CrossAttnUpBlock2D",) * 3
    return diffusers.StableDiffusionPipeline(
        tokenizer=tokenizer(scratch / "sd15", "<|endoftext|>"),
        text_encoder=text_encoder(CLIPTextModel, "quick_gelu"),
        unet=diffusers.UNet2DConditionModel(
            sample_size=8,
            block_out_channels=(32, 32, 64, 64),
            down_block_types=attention[0],
            up_block_types=attention[1],
            attention_head_dim=8,
            cross_attention_dim=WIDTH,
            layers_per_block=1,
        ),
        vae=vae(0.18215),
        scheduler=diffusers.PNDMScheduler(
            beta_start=0.00085, beta_end=0.012, beta_schedule="scaled_linear", skip_prk_steps=True, set_alpha_to_one=False, steps_offset=1
        ),
        safety_checker=None,
        feature_extractor=None,
        requires_safety_checker=False,
    )


def sdxl(scratch: Path) -> diffusers.StableDiffusionXLPipeline:
    decodes = vae(0.13025)
    decodes.decoder.conv_in.weight.data *= 1e4  # too large for half precision inside, as the first VAE of SDXL
    return diffusers.StableDiffusionXLPipeline(
        tokenizer=tokenizer(scratch / "sdxl", "<|endoftext|>"),
        tokenizer_2=tokenizer(scratch / "sdxl_2", "!"),
        text_encoder=text_encoder(CLIPTextModel, "quick_gelu"),
        text_encoder_2=text_encoder(CLIPTextModelWithProjection, "gelu"),
        unet=diffusers.UNet2DConditionModel(
            sample_size=8,
            block_out_channels=(32, 64, 64),
            down_block_types=("DownBlock2D", "CrossAttnDownBlock2D", "CrossAttnDownBlock2D"),
            up_block_types=("CrossAttnUpBlock2D", "CrossAttnUpBlock2D", "UpBlock2D"),
            transformer_layers_per_block=(1, 2, 2),
            attention_head_dim=(4, 8, 8),
            cross_attention_dim=2 * WIDTH,
            use_linear_projection=True,
            addition_embed_type="text_time",
            addition_time_embed_dim=8,
            projection_class_embeddings_input_dim=WIDTH + 6 * 8,
            layers_per_block=1,
        ),
        vae=decodes,
        scheduler=diffusers.EulerDiscreteScheduler(
            beta_start=0.00085, beta_end=0.012, beta_schedule="scaled_linear", steps_offset=1, timestep_spacing="leading"
        ),
        add_watermarker=False,
    )


def draw(pipeline: diffusers.DiffusionPipeline, out: Path, steps: int, seed: int) -> None:
    pipeline.set_progress_bar_config(disable=True)
    noise = torch.Generator().manual_seed(seed)
    pipeline(PROMPT, width=64, height=64, num_inference_steps=steps, generator=noise).images[0].save(out)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("out", type=Path)
    parser.add_argument("--steps", type=int, default=8)
    parser.add_argument("--seed", type=int, default=42)
    arguments = parser.parse_args()
    out: Path = arguments.out
    for make in (sdxl, sd15):
        torch.manual_seed(0)
        with tempfile.TemporaryDirectory() as scratch:
            pipeline = make(Path(scratch))
        pipeline.save_pretrained(out / make.__name__)
        (out / make.__name__ / "README.md").write_text("---\nlicense: apache-2.0\n---\nRandom weights.\n")
        draw(pipeline, out / f"{make.__name__}.png", arguments.steps, arguments.seed)
    pipeline.unet.add_adapter(LoraConfig(r=4, lora_alpha=4, init_lora_weights=False, target_modules=["to_q", "to_k", "to_v", "to_out.0"]))
    pipeline.save_lora_weights(out / "lora", unet_lora_layers=get_peft_model_state_dict(pipeline.unet))
    draw(pipeline, out / "sd15-lora.png", arguments.steps, arguments.seed)


if __name__ == "__main__":
    main()
