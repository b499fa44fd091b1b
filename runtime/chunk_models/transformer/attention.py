"""Attention of sessions of one resolution, each over as much of its own window as is filled.

Decides which kernel runs and how it is told where keys and values lie; must never know what is attended to, or why.

On a processor each session is one call at its exact length. On CUDA one call serves all: `torch.nn.attention.varlen`
with a table of the pages in the arena that each session reads. Its signature is young, so it is tried once and compared
with the calls at exact length; where it is missing or answers otherwise, those are used.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from runtime.chunk_models.transformer.cache import PAGE_TOKENS, CacheLayout
from runtime.chunk_models.transformer.network import Attend

_PAGED_ARGUMENTS = {"seqused_k", "block_table", "num_splits"}
_CLOSE = 0.02  # bfloat16, values around 1


@dataclass(frozen=True, slots=True, kw_only=True)
class Window:
    """Where one session's chunk in progress writes and what it reads."""

    offset: int  # of the block in the arena
    run_start: int  # token at which this chunk's keys and values begin
    valid: int  # tokens to attend to


def attends(arena: Tensor, layout: CacheLayout, windows: Sequence[Window], *, paged: bool) -> list[Attend]:
    """One function per layer, for the sessions of these windows in this order."""
    blocks = [layout.view(arena, window.offset) for window in windows]
    read = _paged_reader(arena, layout, windows) if paged else _each_reader(blocks, windows)

    def attend_in(layer: int) -> Attend:
        def attend(query: Tensor, key: Tensor, value: Tensor) -> Tensor:
            for index, (block, window) in enumerate(zip(blocks, windows, strict=True)):
                run = slice(window.run_start, window.run_start + layout.chunk_tokens)
                block[layer, 0, run].copy_(key[index])
                block[layer, 1, run].copy_(value[index])
            return read(layer, query)

        return attend

    return [attend_in(layer) for layer in range(layout.layers)]


def pages_work(layout: CacheLayout, device: torch.device) -> bool:
    """Whether one paged call gives here what the calls at exact length give."""
    if device.type != "cuda" or _varlen_attn() is None:  # in this order: looking for it loads a compiler
        return False
    torch.cuda.set_device(device)
    chance = torch.Generator(device).manual_seed(0)
    size = layout.state_bytes
    arena = torch.zeros(3 * size, dtype=torch.uint8, device=device)
    windows = [
        Window(offset=2 * size, run_start=0, valid=layout.valid_tokens(0)),
        Window(offset=0, run_start=0, valid=layout.valid_tokens(layout.sink_chunks + layout.ring_chunks)),
    ]
    for window in windows:
        block = layout.view(arena, window.offset)
        block.copy_(torch.randn(block.shape, generator=chance, device=device))
    shape = (2, layout.chunk_tokens, layout.heads, layout.head_dim)
    query = torch.randn(shape, generator=chance, device=device)
    expected = _each_reader([layout.view(arena, window.offset) for window in windows], windows)(0, query)
    try:
        found = _paged_reader(arena, layout, windows)(0, query)
        torch.cuda.synchronize(device)
    except (RuntimeError, TypeError, ValueError, NotImplementedError):  # this device, or this torch's arguments
        return False
    return bool((found - expected).abs().max() < _CLOSE)


def _each_reader(blocks: Sequence[Tensor], windows: Sequence[Window]) -> Callable[[int, Tensor], Tensor]:
    def read(layer: int, query: Tensor) -> Tensor:
        mixed = torch.empty_like(query)
        for index, (block, window) in enumerate(zip(blocks, windows, strict=True)):
            keys, values = (part[: window.valid].transpose(0, 1)[None] for part in block[layer])
            one = query[index].to(block.dtype).transpose(0, 1)[None]
            mixed[index] = functional.scaled_dot_product_attention(one, keys, values)[0].transpose(0, 1)
        return mixed

    return read


def _paged_reader(arena: Tensor, layout: CacheLayout, windows: Sequence[Window]) -> Callable[[int, Tensor], Tensor]:
    function = _varlen_attn()
    assert function is not None, "probed before"
    page_bytes = PAGE_TOKENS * layout.row_bytes
    pages_of_part = layout.part_bytes // page_bytes
    whole = arena[: arena.numel() // page_bytes * page_bytes].view(layout.dtype)
    pool = whole.view(-1, PAGE_TOKENS, layout.heads, layout.head_dim)
    n, device = len(windows), arena.device
    firsts = torch.tensor([[window.offset // page_bytes] for window in windows], dtype=torch.int32)
    table = (firsts + torch.arange(pages_of_part, dtype=torch.int32)).to(device)
    used = torch.tensor([window.valid for window in windows], dtype=torch.int32).to(device)
    queries = torch.arange(n + 1, dtype=torch.int32).mul_(layout.chunk_tokens).to(device)
    longest = max(window.valid for window in windows)

    def read(layer: int, query: Tensor) -> Tensor:
        keys, values = (pool[(2 * layer + part) * pages_of_part :] for part in (0, 1))
        mixed: Tensor = function(
            query.to(layout.dtype).flatten(0, 1),
            keys,
            values,
            queries,
            None,
            layout.chunk_tokens,
            longest,
            seqused_k=used,
            block_table=table,
            num_splits=1,  # or how a session is split depends on who is with it
        )
        return mixed.view(query.shape).to(query.dtype)

    return read


def _varlen_attn() -> Callable[..., Any] | None:
    """The function of this torch, if it can read pages."""
    try:
        from torch.nn.attention.varlen import varlen_attn
    except ImportError:
        return None
    known = inspect.signature(varlen_attn).parameters.keys()
    return varlen_attn if known >= _PAGED_ARGUMENTS else None
