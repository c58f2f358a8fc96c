"""What stages show on the way: the numbers that `stage(observe=...)` finds in their outputs.

`observers` calls the user's function and checks what it returns, `observer_code` is the fingerprint
of its code, and `notes` keeps what it says with the entry of the output in a cache.
"""
