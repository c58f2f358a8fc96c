"""Acquisitions and regions of other papers that EEIPU is compared with.

Public are `cascade` (`CascadeEI`), `lambo` (`lambo_region`) and `per_cost` (`GittinsIndex`,
`LogEIPerCost`); `eeipu.methods.catalogue` gives them names.
"""
