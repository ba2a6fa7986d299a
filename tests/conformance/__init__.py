"""The suite that every provider has to pass."""
