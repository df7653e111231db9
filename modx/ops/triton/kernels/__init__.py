"""The GPU kernels, in Triton's language; the files above decide what is launched."""
