"""What the result files of a comparison say: statistics, printed tables, curves and pictures.

Public: `tables` (`summaries`), `stage_costs` (`stage_costs`), `curves` (means over seeds along a
run), `printing` (tables as text), `pictures` (`draw`).
"""
