"""A proxy in front of the application: records, compares, and moves traffic step by step."""

from unift.migrate.proxy._app import Proxy, Settings
from unift.migrate.proxy._control import Traffic, read_traffic, roll_back, write_traffic
from unift.migrate.proxy._records import shadow_summary
from unift.migrate.proxy._server import serve_proxy

__all__ = [
    "Proxy",
    "Settings",
    "Traffic",
    "read_traffic",
    "roll_back",
    "serve_proxy",
    "shadow_summary",
    "write_traffic",
]
