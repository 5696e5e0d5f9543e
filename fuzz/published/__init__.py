"""Published results, made again: each module prints the published table beside ours."""
