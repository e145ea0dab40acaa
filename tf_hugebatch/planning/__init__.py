"""What a run needs and costs on a TPU slice that is not there: the real step, compiled by the real compiler."""
