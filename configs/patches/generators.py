"""Two small generators of the same few images, a VAE and a diffusion model: something for `analyze.py patches`.

    python configs/patches/generators.py --images data/cifar10/train --out data/generated      # CPU, 1 core: 15 minutes

Both learn from every 25th training image (2000 of CIFAR-10's), whose names go to OUT/members.txt, and each draws 1000
images into OUT/vae and OUT/diffusion. They are small on purpose, and few of their images show an object. What they are
for is a question that can be answered of them: are the training patches that lie nearest to theirs found in their own
2000 images (4 % of the index) more often than in the others? `known_answers.py members` counts. The VAE is that of
Kingma and Welling 2014; the diffusion model has the preconditioning, noise levels and sampler of Karras et al. 2022
(EDM), without the second-order step.
"""

import argparse
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor, nn
from torch.nn import functional
from tqdm import tqdm

SIDE = 32
SIGMA_DATA, SIGMA_MIN, SIGMA_MAX, RHO = 0.5, 0.002, 80.0, 7.0


class VAE(nn.Module):
    """Convolutional VAE of 32-px images in [-1, 1] with a Gaussian code."""

    def __init__(self, code: int = 128, width: int = 64) -> None:
        super().__init__()
        self.code = code
        widths = [3, width, 2 * width, 4 * width]
        down: list[nn.Module] = []
        up: list[nn.Module] = []
        for narrow, wide in pairwise(widths):
            down += [nn.Conv2d(narrow, wide, 4, 2, 1), nn.SiLU()]
            up = [nn.SiLU(), nn.ConvTranspose2d(wide, narrow, 4, 2, 1), *up]
        self.encoder = nn.Sequential(*down, nn.Flatten(), nn.Linear(16 * widths[-1], 2 * code))
        self.decoder = nn.Sequential(nn.Linear(code, 16 * widths[-1]), nn.Unflatten(1, (widths[-1], 4, 4)), *up)

    def loss(self, images_B3HW: Tensor) -> Tensor:
        """Negative evidence lower bound of a Gaussian decoder whose standard deviation is 0.1, in nats a pixel."""
        mean, log_variance = self.encoder(images_B3HW).chunk(2, 1)
        code = mean + torch.randn_like(mean) * (0.5 * log_variance).exp()
        error = (self.decoder(code) - images_B3HW).square().sum() / (2 * 0.1**2)
        divergence = 0.5 * (mean.square() + log_variance.exp() - 1 - log_variance).sum()
        return (error + divergence) / images_B3HW.numel()

    def sample(self, count: int) -> Tensor:
        """Decoded codes from the prior."""
        images: Tensor = self.decoder(torch.randn(count, self.code))
        return images


class Block(nn.Module):
    """Two convolutions with a residual connection, scaled and shifted by the noise level."""

    def __init__(self, narrow: int, wide: int, condition: int) -> None:
        super().__init__()
        self.first = nn.Sequential(nn.GroupNorm(8, narrow), nn.SiLU(), nn.Conv2d(narrow, wide, 3, padding=1))
        self.scale = nn.Linear(condition, 2 * wide)
        self.norm = nn.GroupNorm(8, wide)
        self.second = nn.Conv2d(wide, wide, 3, padding=1)
        self.skip = nn.Conv2d(narrow, wide, 1) if narrow != wide else nn.Identity()

    def forward(self, x: Tensor, condition: Tensor) -> Tensor:
        """``(B, narrow, H, W)`` to ``(B, wide, H, W)``."""
        scale, shift = self.scale(condition)[:, :, None, None].chunk(2, 1)
        y = self.second(functional.silu(self.norm(self.first(x)) * (1 + scale) + shift))
        return torch.as_tensor(self.skip(x) + y)


class Diffusion(nn.Module):
    """A small U-Net on 2x2 pixels at a time, with the preconditioning of EDM."""

    def __init__(self, width: int = 48) -> None:
        super().__init__()
        condition = 2 * width
        self.register_buffer("frequencies", torch.randn(width // 2))
        self.embed = nn.Sequential(nn.Linear(width, condition), nn.SiLU(), nn.Linear(condition, condition))
        self.enter = nn.Conv2d(12, width, 3, padding=1)
        self.high = Block(width, width, condition)
        self.down = nn.Conv2d(width, 2 * width, 3, 2, 1)
        self.low = nn.ModuleList([Block(2 * width, 2 * width, condition) for _ in range(2)])
        self.up = nn.ConvTranspose2d(2 * width, width, 4, 2, 1)
        self.join = Block(2 * width, width, condition)
        self.leave = nn.Sequential(nn.GroupNorm(8, width), nn.SiLU(), nn.Conv2d(width, 12, 3, padding=1))

    def forward(self, noisy_B3HW: Tensor, sigma_B: Tensor) -> Tensor:
        """The denoised image (EDM, equation 7)."""
        sigma = sigma_B[:, None, None, None]
        total = (sigma.square() + SIGMA_DATA**2).sqrt()
        angles = 2 * torch.pi * (sigma_B.log() / 4)[:, None] * self.frequencies
        condition = self.embed(torch.cat([angles.sin(), angles.cos()], 1))
        fine = self.high(self.enter(functional.pixel_unshuffle(noisy_B3HW / total, 2)), condition)
        coarse = self.down(fine)
        for block in self.low:
            coarse = block(coarse, condition)
        joined = self.join(torch.cat([fine, self.up(coarse)], 1), condition)
        change = functional.pixel_shuffle(self.leave(joined), 2)
        return SIGMA_DATA**2 / total.square() * noisy_B3HW + sigma * SIGMA_DATA / total * change

    def loss(self, images_B3HW: Tensor) -> Tensor:
        """Denoising error, weighted as in EDM's table 1."""
        sigma = (torch.randn(len(images_B3HW)) * 1.2 - 1.2).exp()
        noisy = images_B3HW + torch.randn_like(images_B3HW) * sigma[:, None, None, None]
        weight = (sigma.square() + SIGMA_DATA**2) / (sigma * SIGMA_DATA).square()
        error = (self(noisy, sigma) - images_B3HW).square()
        return (weight[:, None, None, None] * error).mean()

    def sample(self, count: int, steps: int = 40) -> Tensor:
        """Euler steps from noise along EDM's noise levels (equation 5)."""
        ends = (SIGMA_MAX ** (1 / RHO), SIGMA_MIN ** (1 / RHO))
        levels = [*(torch.linspace(*ends, steps) ** RHO).tolist(), 0.0]
        x = torch.randn(count, 3, SIDE, SIDE) * SIGMA_MAX
        for level, after in pairwise(levels):
            x = x + (after - level) * (x - self(x, torch.full((count,), level))) / level
        return x


def train(model: VAE | Diffusion, images_N3HW: Tensor, steps: int, batch: int, seed: int) -> VAE | Diffusion:
    """Adam with half of all images mirrored; what is returned is the moving average of the weights, in eval mode."""
    torch.manual_seed(seed)
    average = torch.optim.swa_utils.AveragedModel(model, multi_avg_fn=torch.optim.swa_utils.get_ema_multi_avg_fn(0.998))
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-3)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 1e-3, total_steps=steps, pct_start=0.05)
    bar = tqdm(range(steps), desc=type(model).__name__, mininterval=5)
    for step in bar:
        chosen = images_N3HW[torch.randint(len(images_N3HW), (batch,))]
        mirrored = torch.rand(batch) < 0.5
        chosen = torch.where(mirrored[:, None, None, None], chosen.flip(3), chosen)
        with torch.autocast("cpu", torch.bfloat16):
            loss = model.loss(chosen.contiguous(memory_format=torch.channels_last))
        optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        schedule.step()
        average.update_parameters(model)
        if step % 100 == 0:
            bar.set_postfix(loss=f"{loss.detach():.3f}")
    finished: VAE | Diffusion = average.module.eval()
    return finished


@torch.no_grad()
def draw(sample: Callable[[int], Tensor], count: int, folder: Path, seed: int) -> None:
    """Write so many samples as PNG files."""
    torch.manual_seed(seed)
    folder.mkdir(parents=True, exist_ok=True)
    for start in range(0, count, 100):
        values = sample(min(100, count - start)).clamp(-1, 1).add(1).mul(127.5).round()
        for number, pixels in enumerate(values.to(torch.uint8).permute(0, 2, 3, 1).numpy(), start):
            Image.fromarray(pixels).save(folder / f"{number:05d}.png")


def main() -> None:
    """Read the images, train both and draw from both."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=Path, required=True, help="folder of 32-px training images")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--every", type=int, default=25, help="learn from every n-th image, by name")
    parser.add_argument("--count", type=int, default=1000, help="images drawn from each")
    parser.add_argument("--vae-steps", type=int, default=3000, help="optimizer steps")
    parser.add_argument("--diffusion-steps", type=int, default=1500, help="optimizer steps")
    parser.add_argument("--batch", type=int, default=64, help="images in a step")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    files = [path.relative_to(options.images).as_posix() for path in options.images.rglob("*") if path.is_file()]
    members = sorted(files)[:: options.every]
    pixels = [np.asarray(Image.open(options.images / name).convert("RGB").resize((SIDE, SIDE))) for name in members]
    images = torch.from_numpy(np.stack(pixels)).permute(0, 3, 1, 2).float() / 127.5 - 1
    options.out.mkdir(parents=True, exist_ok=True)
    (options.out / "members.txt").write_text("\n".join(members) + "\n", encoding="utf-8")
    for name, build, steps in (("vae", VAE, options.vae_steps), ("diffusion", Diffusion, options.diffusion_steps)):
        torch.manual_seed(options.seed)
        model = build().to(memory_format=torch.channels_last)
        draw(train(model, images, steps, options.batch, options.seed).sample, options.count, options.out / name, 1)


if __name__ == "__main__":
    main()
