"""Exact values against a linear system written out cell by cell."""

import numpy as np
import pytest

from keras_sparse_rl import environments


def linear_solution(world, policy, discount):
    """`(I - gamma P) v = r`, one row a cell."""
    cells = world.cell_reward.shape[1]
    matrix, right = np.eye(cells), np.zeros(cells)
    for cell in range(cells):
        for move in range(4):
            share = (1 - world.slip) * policy[cell, move] + world.slip / 4
            to = world.next_cell[0, cell, move]
            right[cell] += share * world.cell_reward[0, to]
            if not world.is_terminal[0, to]:
                goes_on = discount * (1 - world.end_probability)
                matrix[cell, to] -= share * goes_on
    return np.linalg.solve(matrix, right)


@pytest.mark.parametrize("discount", [1.0, 0.9])
def test_values_of_a_policy(discount):
    world = environments.RandomGridWorld(size=5, seed=3, end_probability=0.05)
    policy = np.random.default_rng(0).dirichlet(np.ones(4), (1, 25))
    found, _ = environments.grid_world_values(
        world, policy, discount, tolerance=1e-10
    )
    expected = linear_solution(world, policy[0], discount)
    np.testing.assert_allclose(found[0], expected, atol=1e-8)


def test_the_best_policy_is_greedy_in_its_own_values():
    world = environments.RandomGridWorld(size=5, seed=4, end_probability=0.05)
    value, moves = environments.grid_world_values(world, tolerance=1e-10)
    greedy = np.eye(4)[moves[0].argmax(-1)]
    np.testing.assert_allclose(
        linear_solution(world, greedy, 1.0), value[0], atol=1e-8
    )
    other = np.random.default_rng(0).dirichlet(np.ones(4), 25)
    assert (linear_solution(world, other, 1.0) <= value[0] + 1e-9).all()


def test_worlds_that_no_copy_plays_are_refused():
    with pytest.raises(ValueError, match="`batch_size` must be at least"):
        environments.RandomGridWorld(size=5, num_worlds=3, batch_size=2)


def test_endless_walks_are_refused():
    world = environments.RandomGridWorld(size=5, end_probability=0.0)
    with pytest.raises(ValueError, match="end_probability=0"):
        environments.grid_world_values(world)
    environments.grid_world_values(world, discount=0.9)
