"""T5 distillation: a teacher is fine-tuned, and a small student learns from it in three stages.

Public: `problem` (the problem, in three sizes or one of your own), `corpus` (texts and summaries).
"""
