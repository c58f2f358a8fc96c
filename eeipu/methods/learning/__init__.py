"""What the models of a search learn from, and when each is fitted.

`eeipu.methods.search_models` has the models themselves. Nothing here is public.
"""
