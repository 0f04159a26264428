"""`novita.yaml`: from text to a Workspace."""
