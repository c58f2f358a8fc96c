"""What all tests share."""

from hypothesis import settings

# A slow or busy machine must not fail a law.
settings.register_profile("eeipu", deadline=None)
settings.load_profile("eeipu")
