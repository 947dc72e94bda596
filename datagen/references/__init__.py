"""What a model knows of the real images it was trained on: a classifier, statistics of what real
images look like, and a detector of copies. Fitted once (fit.py), kept beside the model as
reference.safetensors (files.py), read by filters and shown by `datagen models show`."""
