"""How near a piece comes to training music: indexes of clips and of melody fingerprints."""
