"""Task templates: two dialects of YAML, or JSON from the wire, to one TaskTemplate or problems."""

from tasker_zmq.templates.canonical import canonical, digest
from tasker_zmq.templates.drawing import draw_mermaid, draw_text
from tasker_zmq.templates.loading import load_file, load_folder, load_mapping, load_text
from tasker_zmq.templates.problems import Loaded, Problem

__all__ = [
    "Loaded",
    "Problem",
    "canonical",
    "digest",
    "draw_mermaid",
    "draw_text",
    "load_file",
    "load_folder",
    "load_mapping",
    "load_text",
]
