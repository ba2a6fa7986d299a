"""The local providers."""
