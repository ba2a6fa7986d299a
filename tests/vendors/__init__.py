"""Vendors on loopback: real HTTP servers with the habits, good and bad, of the real ones."""
