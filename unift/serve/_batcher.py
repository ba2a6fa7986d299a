"""Requests from many connections, answered together by the one thread that owns the engine."""

from __future__ import annotations

import asyncio
import logging
import queue
import threading
from collections.abc import AsyncGenerator
from contextlib import suppress
from dataclasses import dataclass, field

from unift.engine import Delta, Engine, Prepared
from unift.serve._errors import ApiError

log = logging.getLogger("unift.serve")
_ROWS = 64  # answers under way
_TOKENS = 65_536  # of all of them: prompt and room, padded to the longest
_WAITING = 1_024  # turns in the queue; more are refused


@dataclass
class _Ticket:
    prepared: Prepared
    loop: asyncio.AbstractEventLoop
    pieces: asyncio.Queue[Delta | None] = field(
        default_factory=lambda: asyncio.Queue[Delta | None]()
    )
    left: bool = False  # the client is gone
    ended: bool = False  # the last piece was sent

    def tell(self, piece: Delta | None) -> None:
        with suppress(RuntimeError):  # the loop is gone, and the client with it
            self.loop.call_soon_threadsafe(self.pieces.put_nowait, piece)

    def hear(self, piece: Delta) -> bool:
        """A piece from the engine; whether anybody still listens."""
        self.ended = piece.finish is not None
        self.tell(piece)
        return not self.left


class Batcher:
    """Takes turns as they come, answers up to 64 at a time; they join and leave at every token."""

    def __init__(self, engine: Engine) -> None:
        self.engine = engine
        self._queue: queue.Queue[_Ticket | None] = queue.Queue(_WAITING)
        self._kept: _Ticket | None = None  # taken from the queue, but there is no room yet
        self._running: list[_Ticket] = []
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
        last = False
        while not (last and self._kept is None and not self._running):
            last = self._welcome(last) or last
            if self._running:
                self._step()

    def _welcome(self, last: bool) -> bool:
        """Let in who waits, as far as there is room; True once nobody will come any more."""
        while len(self._running) < _ROWS:
            ticket = self._kept
            self._kept = None
            if ticket is None:
                if last:
                    return False
                try:
                    ticket = self._queue.get(block=not self._running)
                except queue.Empty:
                    return False
                if ticket is None:
                    return True
            if ticket.left:
                continue
            widest = max(_size(one) for one in (ticket, *self._running))
            if self._running and widest * (len(self._running) + 1) > _TOKENS:
                self._kept = ticket
                return False
            self._running.append(ticket)
            try:
                self.engine.join(ticket.prepared, ticket.hear)
            except Exception:  # the server outlives one bad adapter
                log.exception("an adapter cannot be loaded")
                self._fail([ticket])
        return False

    def _step(self) -> None:
        try:
            self.engine.step()
        except Exception:  # the server outlives one bad batch
            log.exception("a batch of %d failed", len(self._running))
            self.engine.abandon()
            self._fail(list(self._running))
        self._running = [one for one in self._running if not (one.ended or one.left)]

    def _fail(self, tickets: list[_Ticket]) -> None:
        for ticket in tickets:
            ticket.ended = True
            ticket.tell(None)
            self._running.remove(ticket)


def _size(ticket: _Ticket) -> int:
    return len(ticket.prepared.tokens) + ticket.prepared.room
