"""What the LSTMs of a trained network follow: the parts of the analysis."""
