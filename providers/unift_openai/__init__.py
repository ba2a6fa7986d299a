"""Training at OpenAI and at every host that copied its API, through the `openai` SDK.

Importing this package does not import the SDK.
"""

from unift_openai._provider import Azure, Crusoe, Nebius, OpenAI
from unift_openai.options import OpenAIOptions

__all__ = ["Azure", "Crusoe", "Nebius", "OpenAI", "OpenAIOptions"]
