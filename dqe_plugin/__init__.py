"""DQE-CIR as a plugin: a method and the sampler it is named for.

The hooks are in ``dqe_plugin.hooks``; this file imports nothing, so that ``dqe_plugin.sampler``
works where only torch is installed.
"""
