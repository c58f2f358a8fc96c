"""T5 distillation: a teacher is fine-tuned, and a small student learns from it in three stages."""
