"""Pictures, rows and reports of studies, made from the studies alone.

Public: the names below, and `figures` (`plot_best_over_budget`, of several studies, with
matplotlib). `reading` (load_study) opens a study to look at it, `pictures` draws it, and `page`
makes one HTML file of it. All of them read a study as a StudyRecord, which is in
`eeipu.studies.records.study_record`. Plotly and torch are loaded when a picture needs them.
"""

from eeipu.report.artifacts import upload_outputs
from eeipu.report.page.document import write_report
from eeipu.report.pictures.best import best_figure, best_rows
from eeipu.report.pictures.call_tree import tree_rows
from eeipu.report.pictures.choices import choice_figure, choice_rows, why_figure, why_rows
from eeipu.report.pictures.costs import cost_figure, cost_rows, savings_figure, savings_rows
from eeipu.report.pictures.front import front_figure, front_rows
from eeipu.report.pictures.graph import graph_figure, graph_rows
from eeipu.report.pictures.importance import importance_figure, importance_rows
from eeipu.report.pictures.learning import learning_figure, learning_rows
from eeipu.report.pictures.predictions import prediction_figure, prediction_rows
from eeipu.report.pictures.timeline import timeline_figure, timeline_rows
from eeipu.report.pictures.tree import tree_figure
from eeipu.report.reading import load_study
from eeipu.studies.records.study_record import StudyRecord
from eeipu.studies.records.tables import export_rows

__all__ = [
    "StudyRecord",
    "best_figure",
    "best_rows",
    "choice_figure",
    "choice_rows",
    "cost_figure",
    "cost_rows",
    "export_rows",
    "front_figure",
    "front_rows",
    "graph_figure",
    "graph_rows",
    "importance_figure",
    "importance_rows",
    "learning_figure",
    "learning_rows",
    "load_study",
    "prediction_figure",
    "prediction_rows",
    "savings_figure",
    "savings_rows",
    "timeline_figure",
    "timeline_rows",
    "tree_figure",
    "tree_rows",
    "upload_outputs",
    "why_figure",
    "why_rows",
    "write_report",
]
