"""The local template service: the protocol of the real one, over the Docker engine."""
