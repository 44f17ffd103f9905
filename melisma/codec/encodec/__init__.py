"""EnCodec with published weights (Défossez et al., 2210.13438): the network, its layers as streams,
and the codec that the other floors use. Read `codec.py` first.
"""
