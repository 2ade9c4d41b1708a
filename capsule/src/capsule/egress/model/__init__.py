"""Model calls as events: which model, how many tokens, what it cost, which tools it wanted. Pure.

call = ModelCall.begin("api.anthropic.com", "/v1/messages", untrusted_body)
call.feed(untrusted_chunk)
call.end() -> {"provider": "anthropic", "input_tokens": 812, …}
"""
