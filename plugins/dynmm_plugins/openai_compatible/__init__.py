"""Language models behind an endpoint that speaks the protocol of OpenAI's chat completions."""
