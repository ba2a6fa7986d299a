"""Whose request it is: parameters for endpoints, each with the scope that it needs."""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated

from fastapi import Depends, Header, Request

from unift.serve._keys import Gate, Key, Scope


def _admitted(scope: Scope | None) -> Callable[..., Key]:
    def admit(request: Request, authorization: Annotated[str | None, Header()] = None) -> Key:
        gate: Gate = request.app.state.gate
        return gate.admit(authorization, scope)

    return admit


Anybody = Annotated[Key, Depends(_admitted(None))]
Reader = Annotated[Key, Depends(_admitted("read"))]
Trainer = Annotated[Key, Depends(_admitted("train"))]
Chatter = Annotated[Key, Depends(_admitted("chat"))]
Operator = Annotated[Key, Depends(_admitted("admin"))]
