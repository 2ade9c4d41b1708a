"""What a run under `--overlay` wrote: read from its layer, shown, taken over or thrown away."""
