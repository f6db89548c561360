"""Ray, where it is wanted: the module, and classes that live in processes."""

import os


def import_ray(wanted):
    """The module `ray`, or an error that says how it is installed.

    Args:
        wanted: str, the argument that asks for Ray.
    """
    try:
        import ray
    except ImportError as error:
        raise ImportError(
            f"`{wanted}` needs Ray. Install it by\n\n"
            '    pip install "keras_sparse_rl[ray]"'
        ) from error
    return ray


def remote_class(ray, cls):
    """A class whose objects live in a process and on a core of their own."""
    # TensorFlow's own threads would only compete.
    variables = {"TF_NUM_INTRAOP_THREADS": "1"}
    if "TF_USE_LEGACY_KERAS" in os.environ:
        variables["TF_USE_LEGACY_KERAS"] = os.environ["TF_USE_LEGACY_KERAS"]
    return ray.remote(num_cpus=1)(cls).options(
        runtime_env={"env_vars": variables}
    )
