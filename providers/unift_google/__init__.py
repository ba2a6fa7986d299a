"""Training on Google's platform: Gemini, and open models whose weights land in your bucket.

Importing this package does not import Google's SDKs.
"""

from unift_google._provider import Google
from unift_google.options import GoogleOptions

__all__ = ["Google", "GoogleOptions"]
