"""A server that speaks the OpenAI API over training and answers on this machine.

Needs ``pip install 'unift[serve,local]'``. `unift serve` is the command; `create_app` is the ASGI
application behind it.
"""

from unift.serve._app import create_app
from unift.serve._server import Settings, run_app, serve

__all__ = ["Settings", "create_app", "run_app", "serve"]
