"""Requests from many connections, answered together by the one thread that owns the engine."""

from __future__ import annotations

import asyncio
import logging
import queue
import threading
import time
from collections.abc import AsyncGenerator
from dataclasses import dataclass, field

from unift.engine import Delta, Engine, Prepared
from unift.serve._errors import ApiError

log = logging.getLogger("unift.serve")
_ROWS = 32  # turns of one batch
_TOKENS = 32_768  # of one batch: prompt and room, padded
_GATHER = 0.005  # seconds to wait for company
_WAITING = 1_024  # turns in the queue; more are refused


@dataclass
class _Ticket:
    prepared: Prepared
    loop: asyncio.AbstractEventLoop
    pieces: asyncio.Queue[Delta | None] = field(
        default_factory=lambda: asyncio.Queue[Delta | None]()
    )
    left: bool = False  # the client is gone

    def tell(self, piece: Delta | None) -> None:
        self.loop.call_soon_threadsafe(self.pieces.put_nowait, piece)


class Batcher:
    """Takes turns as they come, answers up to 32 at a time."""

    def __init__(self, engine: Engine) -> None:
        self.engine = engine
        self._queue: queue.Queue[_Ticket | None] = queue.Queue(_WAITING)
        self._kept: _Ticket | None = None  # taken from the queue, but too large for that batch
        self._thread = threading.Thread(target=self._work, name="answers", daemon=True)
        self._closing = False

    @property
    def waiting(self) -> int:
        return self._queue.qsize()

    def start(self) -> None:
        self._thread.start()

    def drain(self) -> None:
        """Answer what is waiting, then stop and free the model."""
        self._closing = True
        self._queue.put(None)
        if self._thread.is_alive():
            self._thread.join()
        self.engine.close()

    async def answer(self, prepared: Prepared) -> AsyncGenerator[Delta]:
        """The pieces of one answer.

        Raises:
            ApiError: 503 while shutting down or overloaded, 500 if the engine fails.
        """
        ticket = _Ticket(prepared, asyncio.get_running_loop())
        if self._closing:
            raise ApiError(503, "The server is shutting down.", "shutting_down")
        try:
            self._queue.put_nowait(ticket)
        except queue.Full:
            raise ApiError(
                503, "Too many requests are waiting.", "overloaded", headers={"Retry-After": "5"}
            ) from None
        try:
            while True:
                piece = await ticket.pieces.get()
                if piece is None:
                    raise ApiError(500, "The engine failed; the log says why.", "engine_failed")
                yield piece
                if piece.finish is not None:
                    return
        finally:
            ticket.left = True

    # --- the thread ---------------------------------------------------------------------------

    def _work(self) -> None:
        while True:
            first = self._kept or self._queue.get()
            self._kept = None
            if first is None:
                return
            batch, last = self._gather(first)
            self._answer(batch)
            if last:
                return

    def _gather(self, first: _Ticket) -> tuple[list[_Ticket], bool]:
        time.sleep(_GATHER)
        batch = [first]
        widest = _size(first)
        while len(batch) < _ROWS:
            try:
                ticket = self._queue.get_nowait()
            except queue.Empty:
                break
            if ticket is None:
                return batch, True
            widest = max(widest, _size(ticket))
            if widest * (len(batch) + 1) > _TOKENS:
                self._kept = ticket
                break
            batch.append(ticket)
        return batch, False

    def _answer(self, batch: list[_Ticket]) -> None:
        batch = [ticket for ticket in batch if not ticket.left]
        ended: set[int] = set()

        def on_delta(index: int, piece: Delta) -> bool:
            if piece.finish is not None:
                ended.add(index)
            batch[index].tell(piece)
            return not batch[index].left

        try:
            if batch:
                self.engine.answer([ticket.prepared for ticket in batch], on_delta)
        except Exception:  # the server outlives one bad batch
            log.exception("a batch of %d failed", len(batch))
        for index, ticket in enumerate(batch):
            if index not in ended:
                ticket.tell(None)


def _size(ticket: _Ticket) -> int:
    return len(ticket.prepared.tokens) + ticket.prepared.room
