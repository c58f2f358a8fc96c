"""The room of stage_tree."""
