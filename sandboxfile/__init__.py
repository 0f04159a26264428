"""Declarative sandbox templates: `novita.yaml` in, up-to-date templates and `novita.lock` out."""

__version__ = "0.1.0"
