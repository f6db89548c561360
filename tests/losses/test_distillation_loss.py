"""Distillation: numbers by hand, gradient fields, and who clones."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from benchmarks import tabular
from benchmarks.distillation import case
from benchmarks.distillation import gate_differs
from benchmarks.distillation import with_reward
from keras_sparse_rl import losses
from keras_sparse_rl.losses import DistillationVariant
from keras_sparse_rl.losses import distillation_loss

FIELDS = [
    "teacher",
    "entropy_regularized",
    "n_distill",
    "expected_entropy",
    "expected_kl",
    "teacher_value",
]
NO_FIELDS = ["on_policy", "td_teacher_value", "value_gated"]


def numbers():
    """Two steps of two actions: student fair, teacher 3 : 1."""
    student = np.zeros((1, 3, 2))
    teacher = np.log(np.full((1, 3, 2), [0.75, 0.25]))
    return student, teacher


def test_losses_and_rewards_by_hand():
    student, teacher = numbers()
    arguments = {
        "a_tm1": np.array([[0, 1]]),
        "discount_t": np.array([[0.5, 0.0]]),
        "r_t": np.array([[1.0, 2.0]]),
        "student_value": np.array([[0.0, 5.0, 0.0]]),
        "teacher_value": np.array([[4.0, 3.0, 7.0]]),
    }
    log = np.log
    cross = log(2.0)  # -E_pi log 1/2
    reverse = -0.5 * (log(0.75) + log(0.25))
    for name, loss, reward, advantage in (
        ("teacher", [cross, cross], None, None),
        ("on_policy", [cross, cross], None, None),
        ("entropy_regularized", None, [log(0.75), log(0.25)], None),
        ("n_distill", [cross, cross], [-0.5 * cross, 0.0], None),
        ("expected_entropy", [reverse] * 2, [-0.5 * reverse, 0.0], None),
        (
            "expected_kl",
            [reverse - log(2)] * 2,
            [-0.5 * (reverse - log(2)), 0.0],
            None,
        ),
        ("teacher_value", None, [0.5 * 3 - 4, 0 - 3.0], None),
        ("value_gated", [cross, 0.0], None, None),
        (
            "td_teacher_value",
            None,
            None,
            [1 + 0.5 * 3 - 4, 2.0 + 0 - 3],
        ),
    ):
        found = distillation_loss(name, student, teacher, **arguments)
        for got, expected in zip(found, (loss, reward, advantage)):
            if expected is None:
                assert got is None, name
            else:
                np.testing.assert_allclose(
                    got, [expected], rtol=1e-9, err_msg=name
                )


@pytest.mark.parametrize(
    "variant",
    [None, *FIELDS, with_reward("n_distill"), with_reward("expected_kl")],
    ids=str,
)
def test_gradient_fields_are_symmetric(variant):
    measure = tabular.asymmetry(variant)
    for seed in range(2):
        assert measure(*case(seed)) <= 1e-12


@pytest.mark.parametrize(
    "variant", [*NO_FIELDS, with_reward("on_policy")], ids=str
)
def test_the_others_are_not(variant):
    measure = tabular.asymmetry(variant)
    cases = [case(seed) for seed in range(8)]
    if variant == "value_gated":
        cases = [each for each in cases if gate_differs(*each)]
    assert len(cases) >= 2
    for each in cases[:2]:
        assert measure(*each) >= 1e-2


def total_variation_after(variant, steps=800):
    mdp, student, teacher = case(0, end_probability=0.2)
    teacher /= 2.0

    @tf.function
    def step(theta):
        update = tabular.expected_update(mdp, variant, theta, teacher)
        # Natural scale: rarely visited states learn as fast as the others.
        visits = tabular.occupancy(mdp, tf.nn.softmax(theta))
        return theta - 2.0 * update / visits[:, tf.newaxis]

    for _ in range(steps):
        student = step(student)
    difference = tf.nn.softmax(student) - tf.nn.softmax(teacher)
    return 0.5 * tf.reduce_max(tf.reduce_sum(tf.abs(difference), -1)).numpy()


@pytest.mark.parametrize("variant", ["teacher", "on_policy", "expected_kl"])
def test_variants_that_clone(variant):
    assert total_variation_after(variant) <= 1e-3


def test_the_cross_entropy_form_collapses():
    assert total_variation_after("expected_entropy") >= 0.3


def test_two_estimators_of_one_objective():
    mdp, student, teacher = case(3)
    one, other = (
        tabular.expected_update(mdp, name, student, teacher)
        for name in ("entropy_regularized", "expected_entropy")
    )
    np.testing.assert_allclose(one, other, atol=1e-12)


def test_teacher_value_as_reward_is_reinforcement_learning():
    mdp, student, teacher = case(4)
    one = tabular.expected_update(mdp, "teacher_value", student, teacher)
    other = tabular.expected_update(mdp, None, student, teacher)
    np.testing.assert_allclose(one, other, atol=1e-12)


@pytest.mark.parametrize(
    "arguments,message",
    [
        ({"loss": "kl"}, "`loss` must be one of"),
        ({"reward": "next"}, "`reward` must be one of"),
        ({"teacher_share": 2.0, "loss": "teacher_kl"}, "`teacher_share`"),
        ({"reward": "next_loss"}, "need a loss"),
        ({}, "nothing of the teacher"),
        (
            {
                "loss": "teacher_kl",
                "reward": "next_loss",
                "value_gate": True,
            },
            "pseudo-reward",
        ),
    ],
)
def test_impossible_variants(arguments, message):
    with pytest.raises(ValueError, match=message):
        DistillationVariant(**arguments)


def test_what_a_variant_needs_is_asked_for():
    student, teacher = numbers()
    given = {"a_tm1": np.zeros((1, 2)), "discount_t": np.ones((1, 2))}
    with pytest.raises(ValueError, match="`teacher_value` must be given"):
        distillation_loss("teacher_value", student, teacher, **given)
    with pytest.raises(ValueError, match="`student_value` must be given"):
        distillation_loss(
            "value_gated",
            student,
            teacher,
            teacher_value=np.zeros((1, 3)),
            **given,
        )
    with pytest.raises(ValueError, match=r"shape \(1, 3\)"):
        distillation_loss(
            "teacher_value",
            student,
            teacher,
            teacher_value=np.zeros((1, 2)),
            **given,
        )
    for wrong in (student[:, :2], student[..., :1], [student, student]):
        with pytest.raises(ValueError, match="over the same actions"):
            distillation_loss("on_policy", student, wrong, **given)
    with pytest.raises(ValueError, match="`name` must be one of"):
        distillation_loss("cloning", student, teacher, **given)


@pytest.mark.parametrize(
    "form,continuous",
    [
        ("teacher_cross_entropy", True),
        ("teacher_kl", False),
        ("student_kl", True),
    ],
)
def test_in_fit(form, continuous, tmp_path):
    generator = np.random.default_rng(0)
    x = generator.normal(size=(256, 3)).astype("float32")
    weights = generator.normal(size=(3, 4))
    teacher = x @ weights
    inputs = keras.Input((3,))
    outputs = keras.layers.Dense(4)(inputs)
    if continuous:
        teacher[:, 2:] = np.exp(teacher[:, 2:] / 4)
        location, scale = keras.ops.split(outputs, 2, axis=-1)
        outputs = keras.ops.concatenate(
            [location, keras.ops.exp(scale / 4)], axis=-1
        )
    model = keras.Model(inputs, outputs)
    loss = losses.PolicyDistillation(form, continuous=continuous)
    model.compile(keras.optimizers.Adam(0.1), loss)
    often = np.tile(x, (150, 1)), np.tile(teacher, (150, 1)).astype("float32")
    model.fit(*often, batch_size=256, verbose=0)
    policy = tf.constant(teacher[:, None], tf.float32)
    floor = 0.0
    if form == "teacher_cross_entropy":
        if continuous:
            policy = losses.Gaussian(policy[..., :2], policy[..., 2:])
        floor = float(tf.reduce_mean(losses.policy_entropy(policy)))
    found = model.evaluate(x, teacher.astype("float32"), verbose=0)
    assert found == pytest.approx(floor, abs=0.01)
    model.save(tmp_path / "model.keras")
    again = keras.models.load_model(tmp_path / "model.keras")
    assert again.loss.get_config() == loss.get_config()


def test_bad_arguments_of_the_keras_loss():
    with pytest.raises(ValueError, match="`form` must be one of"):
        losses.PolicyDistillation("kl")
    with pytest.raises(ValueError, match="`temperature`"):
        losses.PolicyDistillation(temperature=0.0)
    with pytest.raises(ValueError, match="divides logits"):
        losses.PolicyDistillation(temperature=2.0, continuous=True)
