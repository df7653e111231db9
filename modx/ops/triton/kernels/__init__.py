"""What runs on the GPU, in Triton's language; the files above decide what is launched."""
