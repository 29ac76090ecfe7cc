"""Other libraries' models on attnc's kernels: a package for each library, which nothing else of attnc imports."""
