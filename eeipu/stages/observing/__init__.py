"""What stages show on the way: the numbers that `stage(observe=...)` finds in their outputs.

`observers` calls the user's function and checks what it returns; `notes` keeps that with the entry
of the output in a cache, and finds it there again.
"""
