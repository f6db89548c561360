"""What `train` finds in a checkpoint directory, and what it makes of it."""

import keras
import pytest

from keras_sparse_rl import agents
from keras_sparse_rl import layers
from keras_sparse_rl.optimizers import Powerprop
from tests.agents import tasks


def new_agent(rate=1e-2, optimizer=keras.optimizers.SGD, width=4, term=None):
    maze = tasks.maze(batch_size=2)
    model = agents.actor_critic_model(
        maze.observation_spec(),
        maze.action_spec(),
        torso=layers.PowerpropDense(width),
    )
    agent = agents.ActorCriticAgent(
        maze.time_step_spec(),
        maze.action_spec(),
        model,
        Powerprop(optimizer(rate)),
        loss_terms=[] if term is None else [agents.LossTerm(name=term)],
    )
    return agent, maze


def train(folder, epochs=1, callbacks=None, **arguments):
    agent, maze = new_agent(**arguments)
    history = agents.train(
        agent,
        maze,
        epochs=epochs,
        steps_per_epoch=1,
        segment_length=2,
        callbacks=callbacks,
        checkpoint_directory=folder,
        verbose=0,
    )
    return agent, history.history


def rate_of(agent):
    return pytest.approx(float(agent.model.optimizer.learning_rate), rel=1e-6)


class Lower(keras.callbacks.Callback):
    """As ReduceLROnPlateau, in the second epoch."""

    def on_epoch_end(self, epoch, logs=None):
        if epoch == 1:
            self.model.optimizer.learning_rate = 1e-3


@pytest.mark.filterwarnings("error:.*learning rate")
def test_other_agents_are_refused_and_ended_runs_reported(tmp_path):
    train(tmp_path)
    for arguments, words in (
        (
            {"optimizer": keras.optimizers.Adam},
            "has PowerpropSGD; the agent has PowerpropAdam",
        ),
        ({"width": 5}, r"kernel \(4, 5\)"),
        ({"term": "more"}, "has more"),
    ):
        with pytest.raises(ValueError, match="another agent") as error:
            train(tmp_path, 2, **arguments)
        error.match("`checkpoint_directory`")
        error.match(words)
    with pytest.warns(UserWarning, match="`epochs`=1.*has reached epoch 1"):
        agent, history = train(tmp_path)
    assert history == {} and int(agent.train_step_counter) == 1


def test_checkpoints_that_cannot_be_read_are_named(tmp_path):
    train(tmp_path)
    for path in tmp_path.glob("*.data*"):
        path.write_bytes(b"")
    with pytest.raises(ValueError, match="`checkpoint_directory`.*cannot be"):
        train(tmp_path, 2)


def test_learning_rates_that_callbacks_or_users_change(tmp_path):
    agent, _ = train(tmp_path, 2, [Lower()])
    # What the callback changed at the epoch's end is in the checkpoint.
    agent, _ = train(tmp_path, 3)
    assert rate_of(agent) == 1e-3
    # What the user gives anew counts, from now on.
    with pytest.warns(UserWarning, match="learning rate.*0.5"):
        agent, _ = train(tmp_path, 4, rate=0.5)
    assert rate_of(agent) == 0.5
    agent, _ = train(tmp_path, 5, rate=0.5)
    assert rate_of(agent) == 0.5
