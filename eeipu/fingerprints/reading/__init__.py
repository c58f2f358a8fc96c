"""Reading: one definition taken apart into what it refers to, for `code` to follow.

Public are `definition_reader` (`read_definition`), `definitions` (`Definition`, `Reference`,
`reference_to`) and `references` (`is_followed`, `MISSING`).
"""
