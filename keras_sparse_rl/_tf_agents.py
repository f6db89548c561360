"""Imports TF-Agents, or says what is missing and how it is installed."""

import keras
import tensorflow as tf

# With its version, since tf-keras would move TensorFlow to its own.
INSTALL = (
    f'pip install "keras_sparse_rl[agents]" tensorflow=={tf.__version__} && '
    "pip install --no-deps tf-agents==0.19.0"
)

if keras.backend.backend() != "tensorflow":
    raise ImportError(
        "`keras_sparse_rl.agents` and `.environments` need Keras on "
        "TensorFlow. Received: KERAS_BACKEND="
        f"{keras.backend.backend()!r}. Set KERAS_BACKEND=tensorflow before "
        "Keras is imported."
    )

try:
    import gymnasium  # noqa: F401
    import tensorflow_probability  # noqa: F401
    from tf_agents.networks import network
except ImportError as error:
    raise ImportError(
        "`keras_sparse_rl.agents` and `.environments` need TF-Agents and what "
        f"it imports; {error.name or error} is missing. Install them by\n\n"
        f"    {INSTALL}\n\n(TF-Agents' own requirements are from 2023 and do "
        "not install today, hence --no-deps. tf-keras must have TensorFlow's "
        "version; there is none for a pre-release of TensorFlow.)"
    ) from error

# With TF_USE_LEGACY_KERAS=1 a TF-Agents network is a layer of tf_keras, which
# does not see the variables of Keras 3 layers; without, it is one of Keras 3.
LEGACY_KERAS = not issubclass(network.Network, keras.layers.Layer)
