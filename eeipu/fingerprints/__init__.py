"""Fingerprints: what makes two stage calls the same call.

Public are `code` (`code_fingerprint`, `read_code`, `CodeReader`, `CodeReading`,
`package_versions`, `value_digest`), `keys` (`stage_key`, `inputs_key`, and the parts of keys),
`parts` (`differences`), `outlines` (`Outline`, which worker processes compare), `run_inputs`
(`RunInputs`), `values` (`Fingerprinted`) and `first_party` (`FirstParty`). `contents` takes values
apart. `code` follows code: `reading` takes each definition apart, and `syntax` its source;
`watching` notices whether anything has changed since. `garbage` keeps Python from looking for some
meanwhile.

The words of this room:

- A *fingerprint* is the string that stands for code in keys.
- A *key* identifies one stage call: a digest of the stage, its hyper-parameters and its input.
- A *digest* is a hash of a value by its content.
- A *definition* is a function, class or module of the user's own, whose source counts.
- A *reference* is what a name in a definition refers to: a value by its digest, installed code by
  its name, or further definitions.
- *First-party* code is the user's own; installed packages and Python itself are not.
- A *reading* of code is what was found when a function was followed through all definitions that
  it reaches: its fingerprint, and the installed packages that it uses.
"""
