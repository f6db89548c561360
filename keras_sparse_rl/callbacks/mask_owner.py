"""Who chooses the masks of a kernel: one callback at a time."""

import weakref


def own_masks(callback, kernels):
    """Makes a callback the one that chooses masks.

    Args:
        callback: Keras callback.
        kernels: dict of name to `Kernel`.

    Raises:
        ValueError: if another callback of the same training does already.
    """
    for name, kernel in kernels.items():
        other = kernel.mask_owner() if kernel.mask_owner else None
        # One that an exception kept from ending has the parameters of another
        # `fit`. Loops of one's own have none.
        is_same_run = other is not None and other.params is callback.params
        if is_same_run and other is not callback:
            first, second = (
                type(owner).__name__ for owner in (other, callback)
            )
            raise ValueError(
                f"Two callbacks want to choose the masks of '{name}': {first} "
                f"and {second}. Each would undo what the other does: give "
                "training one of them. In a loop of your own call "
                "callback.finish() before another starts."
            )
    for kernel in kernels.values():
        kernel.mask_owner = weakref.ref(callback)


def release_masks(callback, kernels):
    """Ends what `own_masks` began."""
    for kernel in kernels.values():
        if kernel.mask_owner and kernel.mask_owner() is callback:
            kernel.mask_owner = None
