"""What a model knows of its training data: classifier, copy detector, statistics of outliers."""
