"""An interactive page: drop parts of a sample, and see the score and each modality's weight."""
