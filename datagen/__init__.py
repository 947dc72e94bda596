"""datagen: labelled synthetic image data sets, exact, traceable and reproducible."""

__version__ = "0.1.0"
