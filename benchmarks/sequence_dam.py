"""A training step of AttentionDAM, against the way it is usually written: a loop over n, with every copy in memory.

    OMP_NUM_THREADS=1 python benchmarks/sequence_dam.py                             # one CPU core: 2 minutes
    python benchmarks/sequence_dam.py --device cuda --heads 30 --replicas 1 16 64

Both sides do the same: K=500 uniform sequences of N=50 bits, a full memory of M=3000, batch 50, eta 10; loss, gradient,
push; the optimizer is left out, as it is the same. The usual way keeps M rows of bits and, for each n, makes scores of
all of them, softmax, votes, loss, and lets autograd go back through it. Losses and gradients of the two are compared at
every step. Expected on one core: 9 to 12x; see docs/RESULTS.md. Target: 5x.
"""

import argparse
import math
import time
from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn import functional as F

from memlight.data.sequences import SequenceDataModule
from memlight.models.dam import MAX_LOGIT, AttentionDAM


def arguments() -> argparse.Namespace:
    """The sizes to measure."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--heads", type=int, nargs="+", default=[1, 10, 30, 100])
    parser.add_argument("--replicas", type=int, nargs="+", default=[1], help="members trained together, on our side")
    parser.add_argument("--sequences", type=int, default=500)
    parser.add_argument("--bits", type=int, default=50)
    parser.add_argument("--capacity", type=int, default=3000)
    parser.add_argument("--batch", type=int, default=50)
    parser.add_argument("--repeats", type=int, default=20, help="the fastest of so many steps, taken in turns")
    return parser.parse_args()


def loss_by_loop(a_NHN: Tensor, b_HN: Tensor, memory_MN: Tensor, batch_BN: Tensor, eta: float) -> Tensor:
    """The loss of one member after the first bit, one n after the other and copy by copy."""
    losses = []
    phi_MH = memory_MN @ b_HN.softmax(-1).T
    for n in range(1, batch_BN.shape[1]):
        phihat_BH = batch_BN[:, :n] @ a_NHN[n, :, :n].softmax(-1).T
        pi_BM = (eta * phihat_BH @ phi_MH.T).softmax(-1)
        plus_M = (memory_MN[:, n] > 0).to(pi_BM.dtype)
        log_plus_B, log_minus_B = (pi_BM @ torch.stack([plus_M, 1 - plus_M], 1)).clamp_min(1e-30).log().unbind(1)
        logit_B = (log_plus_B - log_minus_B).clamp(-MAX_LOGIT, MAX_LOGIT)
        losses.append(F.binary_cross_entropy_with_logits(logit_B, (batch_BN[:, n] > 0).to(pi_BM.dtype)))
    return torch.stack(losses).mean()


class Loop:
    """The usual way: two parameters and a queue of bits."""

    def __init__(self, dam: AttentionDAM, memory_MN: Tensor) -> None:
        self.a = dam.A_logits[0].detach().clone().requires_grad_()
        self.b = dam.B_logits[0].detach().clone().requires_grad_()
        self.memory, self.eta = memory_MN, dam.eta

    def step(self, batch_BN: Tensor) -> Tensor:
        """Loss, gradient, push."""
        loss = loss_by_loop(self.a, self.b, self.memory, batch_BN, self.eta)
        self.a.grad = self.b.grad = None
        loss.backward()  # type: ignore[no-untyped-call]
        self.memory = torch.cat([self.memory, batch_BN])[len(batch_BN) :]
        return loss.detach()


def main() -> None:
    """Print milliseconds a step and member, and their ratio, for every number of heads."""
    options = arguments()
    print(f"{options.device}, {torch.get_num_threads()} threads, K={options.sequences} N={options.bits}", end=" ")
    print(f"M={options.capacity}, batch {options.batch}: ms a step of one member, the fastest of {options.repeats}")
    for heads in options.heads:
        for replicas in options.replicas:
            compare(options, heads, replicas)


def compare(options: argparse.Namespace, heads: int, replicas: int) -> None:
    """One line of the table."""
    data = SequenceDataModule(options.sequences, options.bits, "uniform", batch_size=options.batch)
    dam = AttentionDAM(options.bits, heads, options.capacity, eta=10.0, init_std=1.0, replicas=replicas)
    dam.to(options.device)
    bits_EKN = data.bits(0, dam.seeds).to(options.device)
    signed_EKN = bits_EKN.float() * 2 - 1
    fill = math.ceil(options.capacity / options.batch)
    ids_ETB = data.ids(0, dam.seeds, 0, fill + options.repeats + 3).to(options.device)
    members = torch.arange(replicas, device=options.device)[:, None]
    dam.set_sequences(bits_EKN)
    for step in range(fill):
        dam.push_ids(ids_ETB[:, step])
    loop = Loop(dam, signed_EKN[0, ids_ETB[0, :fill].flatten()][-options.capacity :])

    def ours(step: int) -> Tensor:
        batch_EBN = signed_EKN[members, ids_ETB[:, step]]
        loss_E = dam.loss(batch_EBN)
        dam.zero_grad()
        loss_E.sum().backward()  # type: ignore[no-untyped-call]
        dam.push_ids(ids_ETB[:, step])
        return loss_E.detach()

    def usual(step: int) -> Tensor:
        return loop.step(signed_EKN[0, ids_ETB[0, step]])

    clock = time.process_time if options.device == "cpu" else time.perf_counter  # the former if others use the core
    times: dict[Callable[[int], Tensor], float] = {ours: math.inf, usual: math.inf}
    for step in range(fill, ids_ETB.shape[1]):
        losses = {}
        for way in times:
            started = clock()
            losses[way] = way(step)
            if options.device != "cpu":
                torch.cuda.synchronize()
            if step >= fill + 3:
                times[way] = min(times[way], clock() - started)
        torch.testing.assert_close(losses[ours][0], losses[usual], rtol=1e-4, atol=1e-5)
        assert dam.A_logits.grad is not None and loop.a.grad is not None
        torch.testing.assert_close(dam.A_logits.grad[0], loop.a.grad, rtol=1e-3, atol=1e-6)
    mine, theirs = 1e3 * times[ours] / replicas, 1e3 * times[usual]
    print(f"H={heads:3d} E={replicas:3d}   ours {mine:8.2f}   loop {theirs:8.2f}   {theirs / mine:6.1f}x", flush=True)


if __name__ == "__main__":
    main()
