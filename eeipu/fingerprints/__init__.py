"""The room of fingerprints."""
