"""From a request to audio or a score: pipelines, conditioning, ranking, originality. Floor 6.

Read `pipeline.py` first (what every pipeline offers), then `musiclm.py` and `score/pipeline.py`;
`musicgen.py` is the same for MusicGen's published weights. `conditioning/prompt.py` and
`score/prompt_conditioning.py` turn words into what the models are conditioned on; `requests` runs a
request on a loaded pipeline. Names are imported from their own modules: listing models needs no
torch.
"""
