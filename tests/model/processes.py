"""What test_batch_norm.py runs in two processes; it imports no more than they need."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from torch import distributed

from wavconformer.model.quantizer import perplexity


def train(rank: int, folder: Path) -> None:
    """Takes the training steps that <folder>/jobs.pt asks for, as one of two processes, and saves what came out."""
    distributed.init_process_group("gloo", init_method=f"file://{folder}/store", rank=rank, world_size=2)
    jobs = torch.load(folder / "jobs.pt", weights_only=False)
    torch.manual_seed(100 + rank)
    results = {name: [step(model, batch[rank]) for batch in batches] for name, (model, batches) in jobs.items()}
    torch.save(results, folder / f"results.{rank}.pt")
    distributed.destroy_process_group()


def step(model: Any, batch: dict[str, Any]) -> dict[str, Any]:
    """One forward and backward pass of a CTC model: its logits, gradients and buffers."""
    model.zero_grad(set_to_none=True)
    output = model(**batch)
    output.loss.backward()
    return {
        "loss": output.loss.detach(),
        "logits": output.logits.detach(),
        "gradients": {name: p.grad.clone() for name, p in model.named_parameters() if p.grad is not None},
        "buffers": {name: buffer.clone() for name, buffer in model.named_buffers()},
    }


def usage(rank: int, folder: Path) -> None:
    """The perplexity of half of <folder>/usage.pt's frames with those of the other process, and its gradient."""
    distributed.init_process_group("gloo", init_method=f"file://{folder}/store", rank=rank, world_size=2)
    scores, mask = (half[rank] for half in torch.load(folder / "usage.pt"))
    scores.requires_grad_()
    found = perplexity(scores.softmax(-1), mask, of_all_processes=True)
    (found * (rank + 1) / 3).backward()  # parts of one loss, as each process has its own
    torch.save((found.detach(), scores.grad), folder / f"usage.{rank}.pt")
    distributed.destroy_process_group()
