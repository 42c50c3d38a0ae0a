"""Features of frozen stages: computed once for all examples, kept, and given to training in place of the raw examples."""
