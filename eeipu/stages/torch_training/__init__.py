"""The room of stages/torch_training."""
