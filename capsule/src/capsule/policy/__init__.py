"""The policy language: a person's YAML → `Policy`. Pure: bytes come in, values or `PolicyError` come out."""
