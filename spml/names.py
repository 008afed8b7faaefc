"""Values and names that several parts share. No imports, so that nothing heavy comes with them."""

__version__ = '0.1.0'

# Label value of pixels that are dropped; also the padding value (METHOD.md, "Labels").
VOID = 255

# The value this project writes for *unlabelled*. Any of C..254 would mean it, and C is at most 254.
UNLABELLED = 254

# Clusters of an image; segment ids and 16-bit cluster maps have room for no more.
MAX_CLUSTERS = 65535

# Parts of the backbone, as `network.frozen_stages` names them.
STAGES = ('stem', 'res2', 'res3', 'res4', 'res5')

# Relations between pixels and segments: the prefixes of their configuration keys and the names of their losses.
RELATIONS = ('sem_ann', 'sem_occ', 'img_sim', 'feat_aff')

# In the environment of processes that one command launched: the folder in which they note what one of them has said.
LAUNCHED = 'SPML_LAUNCHED'

# Arithmetic of the network in training, as `train.precision` names it.
PRECISIONS = ('fp32', 'tf32', 'bf16')
