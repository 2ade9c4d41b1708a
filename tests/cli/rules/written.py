"""A file of rules for the verbs' tests."""

RULES = """version: 1
rules:
  - id: no-gists
    on: http
    when: http.host == "api.example" && http.method == "POST"
    action: block
    priority: 100
    reason: gists are public
    tests:
      match: [{http: {host: api.example, method: POST}}]
      miss: [{http: {host: api.example, method: GET}}]
  - id: later
    on: http
    when: http.host == "other.example"
    action: allow
"""
