"""EnCodec with published weights (Défossez et al., 2210.13438): the network, its streaming layers,
and the codec's interface. Read `codec.py` first.
"""
