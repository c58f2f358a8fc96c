"""The stage tree: the trials of all studies as one tree of calls, in which every call runs once.

Public: tree (StageTree), search_plan (SearchPlan), nodes (Request, RequestState, Answer, PlanNode),
accounts (account, Account), drawing (drawing_of), scheduler (Scheduler and its policies),
cost_estimates (CostEstimates). The other modules are the inside of Scheduler (remaining_times,
forecasts) and of SearchPlan (all others, and the room states).
"""
