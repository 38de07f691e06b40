"""The science of straightening images: geometry, sampler, networks, recipes, training, bundles, inference.

Importing this package loads no TensorFlow; the modules that need it do so themselves.
"""

__version__ = "0.1.0"
