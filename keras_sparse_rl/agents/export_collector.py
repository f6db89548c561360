import collections
import pathlib
import pickle
import tempfile

import cloudpickle
import numpy as np
import tensorflow as tf

from keras_sparse_rl.agents.in_graph_collector import InGraphCollector
from keras_sparse_rl.agents.in_graph_collector import with_last_step
from keras_sparse_rl.agents.python_player import acting_function
from keras_sparse_rl.environments import InGraphEnvironment

ExportedCollector = collections.namedtuple(
    "ExportedCollector", ["worker", "weights", "unpack"]
)
ExportedCollector.__doc__ = """What `export_collector` returns.

`worker`: dict of what a `CollectorWorker` needs, all of it bytes, arrays and
numbers; `weights`: list of the variables whose values it needs at each
segment; `unpack`: function from the tensors that it returns to a `Trajectory`
and a dict of figures.
"""

# Operations that call back into the process that made them.
_OF_PYTHON = {"PyFunc", "EagerPyFunc", "PyFuncStateless"}


def export_collector(
    policy, environment, segment_length, seed, jit_compile=False
):
    """Makes of a policy and an environment what collects elsewhere.

    The policy becomes a graph, and an environment in TensorFlow a part of it;
    other environments are pickled.

    Args:
        policy: `ActorCriticPolicy` made with `collect=True`.
        environment: `environments.InGraphEnvironment`, or a batched TF-Agents
            environment that can be pickled.
        segment_length: int, steps of a segment.
        seed: int.
        jit_compile: bool.

    Returns:
        `ExportedCollector`.

    Raises:
        ValueError: if the environment cannot be pickled, or the policy or the
            environment calls Python from its graph.
    """
    module = tf.Module(name="exported")
    if isinstance(environment, InGraphEnvironment):
        pickled, state = None, []
        graph, own, unpack = _add_collect(
            module, policy, environment, segment_length, seed, jit_compile
        )
    else:
        pickled = _pickled(environment)
        graph, own, unpack = _add_act(
            module, policy, environment, seed, jit_compile
        )
        state = tf.nest.flatten(
            policy.get_initial_state(environment.batch_size)
        )
    kinds = _operations(graph)
    if kinds & _OF_PYTHON:
        raise ValueError(
            "Collectors in other processes run the policy, and an environment "
            "in TensorFlow, as graphs that must not call Python. Received "
            f"one with {sorted(kinds & _OF_PYTHON)}: leave out "
            "tf.py_function and tf.numpy_function, or collect in this process "
            "(collectors=0)."
        )
    taken = set(map(id, own))
    module.weights = [v for v in graph.variables if id(v) not in taken]
    module.own = own
    worker = {
        "files": _saved(module),
        "environment": pickled,
        "state": [np.asarray(x) for x in state],
        "segment_length": segment_length,
        "needs_sparse_ops": any(k.startswith("KerasSparseRl") for k in kinds),
    }
    return ExportedCollector(worker, list(module.weights), unpack)


def _add_collect(
    module, policy, environment, segment_length, seed, jit_compile
):
    """Acting and environment as one graph: `collect` and `start`."""
    collector = InGraphCollector(policy, environment, segment_length, seed)

    @tf.function(input_signature=[], jit_compile=jit_compile, autograph=False)
    def collect():
        found = collector.collect()
        structure.append(tf.nest.map_structure(lambda x: 0, found))
        return tf.nest.flatten(found)

    @tf.function(input_signature=[tf.TensorSpec((), tf.int32)], autograph=False)
    def start(count):
        environment.assign(environment.start(count))
        collector.count.assign(count)

    structure = []
    module.collect, module.start = collect, start
    graph = collect.get_concrete_function().graph
    own = [*collector.own_variables, *tf.nest.flatten(environment.carry)]
    return (
        graph,
        own,
        lambda tensors: tf.nest.pack_sequence_as(structure[0], tensors),
    )


def _add_act(module, policy, environment, seed, jit_compile):
    """Acting as a graph: `act`."""
    module.act = acting_function(
        policy, environment.batch_size, seed, jit_compile
    )
    step = dict.fromkeys(("step_type", "next_step_type", "reward"), 0)
    step |= dict.fromkeys(("log_probability", "discount"), 0)
    step["observation"] = policy.time_step_spec.observation
    step["action"] = policy.action_spec
    structure = (
        step,
        policy.time_step_spec,
        policy.policy_state_spec,
        {"episodes": 0, "return_sum": 0},
    )

    def unpack(tensors):
        *parts, figures = tf.nest.pack_sequence_as(structure, tensors)
        return with_last_step(*parts), figures

    return module.act.get_concrete_function().graph, [], unpack


def _pickled(environment):
    try:
        return cloudpickle.dumps(environment)
    except (
        AttributeError,
        NotImplementedError,
        RuntimeError,
        TypeError,
        ValueError,
        pickle.PicklingError,
    ) as error:
        raise ValueError(
            "`environment` is copied to each of the `collectors` by pickle, "
            f"and cannot be pickled: {error}. Received: {type(environment)}. "
            "Give environments.GymnasiumEnvironment the id of an environment "
            "or a function that makes one, a PyEnvironment instead of a "
            "TFPyEnvironment around it, or collect in this process "
            "(collectors=0)."
        ) from error


def _operations(graph):
    definition = graph.as_graph_def()
    nodes = [definition.node]
    nodes += [function.node_def for function in definition.library.function]
    return {node.op for part in nodes for node in part}


def _saved(module):
    with tempfile.TemporaryDirectory() as folder:
        tf.saved_model.save(module, folder)
        root = pathlib.Path(folder)
        return {
            str(path.relative_to(root)): path.read_bytes()
            for path in sorted(root.rglob("*"))
            if path.is_file()
        }
