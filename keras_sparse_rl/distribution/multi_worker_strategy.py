import concurrent.futures
import contextlib

import tensorflow as tf

# What TensorFlow's collectives can send to the other workers.
_SENT = (tf.int32, tf.int64)


class MultiWorkerStrategy(tf.distribute.MultiWorkerMirroredStrategy):
    """`tf.distribute.MultiWorkerMirroredStrategy` that Keras 3 can fit with.

    With TensorFlow's own strategy `fit` ends in "Attempt to convert a value
    (PerReplica ...) to a Tensor" before its first step, built model or not
    (https://github.com/keras-team/keras/issues/20585): Keras looks at a batch
    for its shapes, by a mean over the replicas of the whole tuple `(x, y)`,
    and this strategy reduces single tensors alone. Here such a tuple gives
    this worker's first replica, whose shapes and dtypes are all that Keras
    wants of it. And TensorFlow cannot send new variables of small integers
    from worker 0 to the others ("uint8 is not in the list of allowed
    values"), such as masks and the seeds of Keras' dropout: here each worker
    makes its own. Everything else is TensorFlow's.

    How to train on several machines, one program on each:

    1. Set `TF_CONFIG` before TensorFlow is imported: the same `cluster` on
       every machine, and each its own `index`,
       `{"cluster": {"worker": ["host0:2222", "host1:2222"]},
       "task": {"type": "worker", "index": 0}}`. All of them wait until the
       last one has started.
    2. Make the strategy first of all, and model, optimizer and `compile`
       inside `strategy.scope()`. Weights start as worker 0 has drawn them.
    3. Give `fit` a `tf.data.Dataset` of *global* batches; each worker takes
       its share. All must make the same number of steps.
    4. Masks need no care: `TopKAST`, `RigL`, `SET`, `StaticSparsity` and
       `MagnitudePruning` choose them on every worker from the same weights,
       the same summed gradients and the same seed, so they are equal after
       every refresh. Give all workers the same callbacks and arguments.
    5. Save on worker 0, the others to a scratch folder: saving reads
       variables of all workers, so none may leave it out.

    `SparseDense` draws resting weights on the host of each worker, which
    would differ, and refuses; masked layers (`PowerpropDense` and its kin)
    are meant for this. On one machine `tf.distribute.MirroredStrategy` needs
    no help, and both kinds of layers work.

    Two workers are tested to train as one, with TensorFlow 2.18 and Keras
    3.8 and with 2.21 and 3.15. In Keras 3.8 weights and masks are those of
    one worker, and the loss that `fit` reports is not.

    Args:
        args, kwargs: as in `tf.distribute.MultiWorkerMirroredStrategy`.

    Raises:
        ValueError: if `TF_CONFIG` is malformed.

    Example:

    >>> import keras
    >>> from keras_sparse_rl.distribution import MultiWorkerStrategy
    >>> strategy = MultiWorkerStrategy()  # without TF_CONFIG: this machine
    >>> with strategy.scope():
    ...     model = keras.Sequential([keras.Input((2,)), keras.layers.Dense(1)])
    ...     model.compile("sgd", "mse")
    >>> x, y = keras.ops.ones((8, 2)), keras.ops.ones((8, 1))
    >>> len(model.fit(x, y, batch_size=4, verbose=0).history["loss"])
    1
    """

    @contextlib.contextmanager
    def scope(self):
        with super().scope(), tf.variable_creator_scope(_make_variable):
            yield self

    def reduce(self, reduce_op, value, axis):
        if isinstance(value, (tuple, list, dict)):
            return tf.nest.map_structure(
                lambda x: self.experimental_local_results(x)[0], value
            )
        # Keras averages metrics, numbers each, along an axis they have not.
        if not self.experimental_local_results(value)[0].shape.rank:
            axis = None
        return super().reduce(reduce_op, value, axis)


def _make_variable(next_creator, **arguments):
    """Variables of small integers are this worker's own."""
    value, dtype = arguments["initial_value"], arguments.get("dtype")
    dtype = tf.as_dtype(dtype) if dtype is not None else None
    if dtype is None or not dtype.is_integer or dtype in _SENT:
        return next_creator(**arguments)
    value = value() if callable(value) else value
    # In another thread no strategy is in force that would send the value.
    with concurrent.futures.ThreadPoolExecutor(1) as thread:
        return thread.submit(
            tf.Variable,
            value,
            trainable=arguments.get("trainable"),
            name=arguments.get("name"),
            dtype=dtype,
        ).result()
