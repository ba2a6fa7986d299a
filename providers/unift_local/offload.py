"""Layer inputs kept in main memory between the forward and the backward pass.

Copies run on a stream of their own, beside the computing: out while the next layers run, and back
while the layer above is going backward. `torch.autograd.graph.save_on_cpu` waits for each copy.
The card's memory is bounded as well: the host, which runs ahead of the card, may not hand out
layers faster than their inputs leave, so no more than `_LEAVING` of them are on the card at once.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import Any

import torch
from torch.autograd.graph import saved_tensors_hooks

_SMALL = 2**20  # bytes; what is smaller stays where it is
_LEAVING = 2


class _Kept:
    """One tensor in main memory, and the way back."""

    def __init__(self, host: torch.Tensor, device: torch.device, before: _Kept | None) -> None:
        self.host, self.device, self.before = host, device, before
        self._back: torch.Tensor | None = None
        self._arrived = torch.cuda.Event()

    def fetch(self, stream: torch.cuda.Stream) -> None:
        """Begin to copy it back, unless that has begun."""
        if self._back is None:
            # From the memory of the stream that computes, which frees it again; its old content
            # must have been used by then.
            self._back = torch.empty_like(self.host, device=self.device)
            stream.wait_stream(torch.cuda.current_stream(self.device))
            with torch.cuda.stream(stream):
                self._back.copy_(self.host, non_blocking=True)
                self._arrived.record(stream)

    def take(self, stream: torch.cuda.Stream) -> torch.Tensor:
        """The tensor on the card, for the stream that computes now."""
        self.fetch(stream)
        torch.cuda.current_stream(self.device).wait_event(self._arrived)
        back, self._back = self._back, None
        assert back is not None
        return back


class Offload:
    """Keeps what a checkpoint saves in pinned main memory; on a CPU there is nothing to do."""

    def __init__(self) -> None:
        self._last: _Kept | None = None
        self._stream: torch.cuda.Stream | None = None
        self._leaving: deque[tuple[torch.Tensor, torch.cuda.Event]] = deque()

    def around(self, checkpointed: Callable[..., Any]) -> Callable[..., Any]:
        """A function that is recomputed, with what it is recomputed from in main memory."""

        def run(*args: Any, **kwargs: Any) -> Any:
            with saved_tensors_hooks(self.put, self.get):
                return checkpointed(*args, **kwargs)

        return run

    def put(self, tensor: torch.Tensor) -> Any:
        """Something to give `get`; the tensor itself if it is small or on no card."""
        if not tensor.is_cuda or tensor.numel() * tensor.element_size() < _SMALL:
            return tensor
        if self._stream is None:
            self._stream = torch.cuda.Stream(tensor.device)
        host = torch.empty(tensor.shape, dtype=tensor.dtype, pin_memory=True)
        kept = _Kept(host, tensor.device, self._last)
        self._stream.wait_stream(torch.cuda.current_stream(tensor.device))
        with torch.cuda.stream(self._stream):
            host.copy_(tensor, non_blocking=True)
        gone = torch.cuda.Event()
        gone.record(self._stream)
        self._leaving.append((tensor.detach(), gone))
        self._let_go(_LEAVING)
        self._last = kept
        return kept

    def _let_go(self, but: int) -> None:
        """Free what has left, except for the newest; what computes next waits for the copies."""
        while len(self._leaving) > but:
            tensor, gone = self._leaving.popleft()
            torch.cuda.current_stream(tensor.device).wait_event(gone)

    def get(self, saved: Any) -> torch.Tensor:
        """The tensor that was put; the last one first."""
        if not isinstance(saved, _Kept):
            return saved
        assert self._stream is not None
        self._let_go(0)
        found = saved.take(self._stream)
        if saved.before is not None:  # the layer below is next
            saved.before.fetch(self._stream)
        if self._last is saved:  # the first to come back is the last that went
            self._last = None
        saved.before = None
        return found
