"""The science of straightening images: geometry, sampler, networks, recipes, training, bundles, inference.

Importing this package loads no TensorFlow; the modules that need it do so themselves.
"""

import os

# TensorFlow reads it when it is first imported. Its kernels by oneDNN, which it takes by itself on some processors
# alone, do a step of training in about half the time of its others.
os.environ.setdefault("TF_ENABLE_ONEDNN_OPTS", "1")

__version__ = "0.1.0"
