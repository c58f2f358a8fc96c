"""How the next configuration is chosen.

Public: catalogue (METHODS, Method, method_named), history (History), search_state (Search),
search_models (SearchModels), warm_up (the designs), cost_priors (cost_prior), budget (Budget and
RunBounds, which the tuner and its driver share with the sampler). `eeipu.sampler` uses the rest:
reuse (kept parts), scores, maximisation, acquisition_gradients, proposals, suggestion_batches,
papers' methods.
"""
