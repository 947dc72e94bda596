"""Labels of finished images by a pretrained network: boxes, or what each pixel shows, each object
with a confidence. Such labels are machine-made, and say so.

resolve.py opens the detector that a recipe's `labels.detector` asks for; the stages detect in what
was made, keep the text beside the scores, and read labels from it when they pack.
"""

from __future__ import annotations

from datagen.detectors.detector import Detector, open_detector
from datagen.detectors.findings import Findings, labels_from

__all__ = ["Detector", "Findings", "labels_from", "open_detector"]
