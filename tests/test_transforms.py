"""Smoothed functions compose with the rest of JAX, and are analysed once."""

from __future__ import annotations

import functools
import threading
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from jax import lax

import jaxsmooth
from jaxsmooth import ball, box, fixed, linf_ball, share, smooth, verification


class Layer(NamedTuple):
    w: jax.Array
    b: jax.Array


def dense(layer, x):
    return jax.nn.relu(x @ layer.w + layer.b)


def clipped(layer, x):
    return jnp.clip(jnp.abs(x @ layer.w) + layer.b, -0.5, 0.5)


def pooled(layer, x):
    image = x.reshape(2, 2)
    top = lax.reduce_window(image, -jnp.inf, lax.max, (2, 1), (1, 1), "VALID")
    mean = lax.reduce_window(image, 0.0, lax.add, (1, 2), (1, 1), "VALID") / 2
    return jnp.concatenate([top.ravel(), mean.ravel()])[:4] @ layer.w + layer.b


FUNCTIONS = {"dense": dense, "clipped": clipped, "pooled": pooled}


def arguments(seed=0):
    rng = np.random.default_rng(seed)

    def draw(*shape):
        return jnp.asarray(rng.normal(size=shape) / 3, jnp.float32)

    return Layer(draw(4, 3), draw(3)), draw(4)


@functools.cache
def smoothed(name):
    return smooth(FUNCTIONS[name], 0.1, (ball(3.0), ball(3.0)))


def scalar(name):
    return lambda layer, x: jnp.sum(smoothed(name)(layer, x) ** 2)


def close(a, b, tolerance=1e-5):
    jax.tree.map(lambda u, v: np.testing.assert_allclose(u, v, atol=tolerance, rtol=1e-4), a, b)


@pytest.mark.parametrize("name", FUNCTIONS)
class TestMatrix:
    def test_jit(self, name):
        args = arguments()
        close(jax.jit(smoothed(name))(*args), smoothed(name)(*args))

    def test_grad_forms_agree(self, name):
        args, f = arguments(), scalar(name)
        gradient = jax.grad(f)(*args)
        close(jax.value_and_grad(f)(*args)[1], gradient)
        close(jax.jit(jax.grad(f))(*args), gradient)
        close(jax.jacfwd(f)(*args), gradient)
        close(jax.jacrev(f)(*args), gradient)
        direction = jax.tree.map(jnp.ones_like, args[0])
        _, along = jax.jvp(lambda layer: f(layer, args[1]), args[:1], (direction,))
        close(along, sum(jnp.sum(g) for g in jax.tree.leaves(gradient)))
        _, linear = jax.linearize(lambda layer: f(layer, args[1]), args[0])
        close(linear(direction), along)

    def test_grad_is_the_difference_quotient(self, name):
        with jax.enable_x64(True):
            f = smooth(FUNCTIONS[name], 0.1, (ball(3.0), ball(3.0)))
            layer, x = jax.tree.map(lambda a: a.astype(jnp.float64), arguments(3))
            total = lambda x: jnp.sum(f(layer, x) ** 2)  # noqa: E731
            direction = jnp.asarray([0.3, -0.2, 0.5, 0.1])
            h = 1e-6
            quotient = (total(x + h * direction) - total(x - h * direction)) / (2 * h)
            assert abs(quotient - jax.grad(total)(x) @ direction) < 1e-5

    def test_hessian(self, name):
        layer, x = arguments()
        f = functools.partial(scalar(name), layer)
        hessian = jax.hessian(f)(x)
        close(hessian, jax.jacrev(jax.jacfwd(f))(x))
        close(hessian, hessian.T)

    def test_vmap_and_grad(self, name):
        layer, _ = arguments()
        xs = jnp.stack([arguments(seed)[1] for seed in range(3)])
        f, g = smoothed(name), jax.grad(scalar(name), argnums=1)
        close(jax.vmap(f, (None, 0))(layer, xs), jnp.stack([f(layer, x) for x in xs]))
        close(jax.vmap(g, (None, 0))(layer, xs), jnp.stack([g(layer, x) for x in xs]))
        mean = lambda x: jnp.mean(jax.vmap(scalar(name), (None, 0))(layer, x))  # noqa: E731
        close(jax.grad(mean)(xs), jnp.stack([g(layer, x) for x in xs]) / 3)

    def test_scan_and_checkpoint(self, name):
        layer, x = arguments()
        f = scalar(name)

        def step(carry, _):
            return carry - 0.01 * jax.grad(f, argnums=1)(layer, carry), f(layer, carry)

        end, values = jax.jit(lambda x: lax.scan(step, x, None, length=3))(x)
        y = x
        for value in values:
            close(value, f(layer, y))
            y, _ = step(y, None)
        close(end, y)
        close(jax.grad(jax.checkpoint(f))(layer, x), jax.grad(f)(layer, x))

    def test_error_is_kept(self, name):
        for seed in range(5):
            args = arguments(seed)
            difference = smoothed(name)(*args) - FUNCTIONS[name](*args)
            assert np.linalg.norm(difference) <= 0.1 + 1e-6


class TestTraining:
    def test_optax_step_decreases_the_loss(self):
        layer, x = arguments()
        loss = smooth(lambda layer, x: jnp.sum(dense(layer, x) ** 2), 0.01, (ball(3.0), fixed(x)))
        step = 1 / loss.certificate(layer, x).smoothness
        optimiser = optax.sgd(step)

        @jax.jit
        def update(layer, state):
            value, gradient = jax.value_and_grad(loss)(layer, x)
            updates, state = optimiser.update(gradient, state)
            return optax.apply_updates(layer, updates), state, value

        state, values = optimiser.init(layer), []
        for _ in range(4):
            layer, state, value = update(layer, state)
            values.append(float(value))
        assert values == sorted(values, reverse=True)

    def test_donated_buffers(self):
        _, x = arguments()
        f = smooth(jnp.abs, 0.1, ball(3.0))
        donated = jax.jit(f, donate_argnums=0)
        close(donated(x + 0), f(x))


class TestTraced:
    def test_compiles_once_for_all_eps(self):
        layer, x = arguments()
        traces = []

        @jax.jit
        def run(eps, layer):
            traces.append(None)
            return smooth(dense, eps, (ball(3.0), ball(3.0)))(layer, x)

        for eps in (0.1, 0.2, 0.3):
            assert np.linalg.norm(run(eps, layer) - dense(layer, x)) <= eps + 1e-6
        assert len(traces) == 1

    def test_numbers_match_those_of_a_known_eps(self):
        args = arguments()

        @jax.jit
        def certificate(eps):
            return smooth(dense, eps, (ball(3.0), ball(3.0))).certificate(*args)

        traced, known = certificate(0.1), smoothed("dense").certificate(*args)
        assert isinstance(traced, jaxsmooth.Certificate)
        for name in ("error", "bound", "lipschitz", "smoothness"):
            close(getattr(traced, name), getattr(known, name), 1e-3)
        assert traced.error <= 0.1 * (1 + 1e-6)
        assert traced.smoothness >= known.smoothness * (1 - 1e-6)

    def test_smoothness_is_differentiable(self):
        args = arguments()

        def constant(eps):
            return smooth(dense, eps, (ball(3.0), ball(3.0))).certificate(*args).smoothness

        slope = jax.jit(jax.grad(constant))(0.1)
        quotient = (constant(0.1001) - constant(0.0999)) / 0.0002
        assert abs(slope - quotient) <= 0.01 * abs(quotient)

    @pytest.mark.slow
    def test_traced_bounds_and_weights(self):
        layer, x = arguments()

        @jax.jit
        def run(radius, center, layer):
            near = smooth(dense, 0.1, (fixed(layer), ball(radius, center)))
            return near(layer, x), near.certificate(layer, x).lipschitz

        value, lipschitz = run(0.5, x, layer)
        assert np.linalg.norm(value - dense(layer, x)) <= 0.1 + 1e-6
        assert lipschitz >= np.linalg.norm(jax.jacobian(dense, 1)(layer, x), 2)

    @pytest.mark.parametrize(
        ("f", "bounds"),
        [
            (dense, lambda r: (ball(r), box(0.0, 1.0))),
            pytest.param(dense, lambda r: (ball(3.0), box(-r, r)), marks=pytest.mark.slow),
            pytest.param(dense, lambda r: (linf_ball(r), ball(1.0)), marks=pytest.mark.slow),
            pytest.param(
                dense,
                lambda r: (Layer(ball(3.0), ball(r)), box(0.0, 1.0)),
                marks=pytest.mark.slow,
            ),
            pytest.param(
                dense, lambda r: (ball(3.0), ball(1.0, r * jnp.ones(4))), marks=pytest.mark.slow
            ),
            pytest.param(
                lambda layer, x: mixed(dense(layer, x), x),
                lambda r: (ball(r), box(0.0, 1.0)),
                marks=pytest.mark.slow,
            ),
        ],
    )
    def test_one_traced_number_beside_known_sets(self, f, bounds):
        layer, x = arguments()

        @jax.jit
        def figures(r):
            f_eps = smooth(f, 0.1, bounds(r))
            found = f_eps.certificate(layer, x)
            return f_eps(layer, x), (found.error, found.bound, found.lipschitz, found.smoothness)

        value, traced = figures(0.5)
        found = smooth(f, 0.1, bounds(0.5)).certificate(layer, x)
        known = (found.error, found.bound, found.lipschitz, found.smoothness)
        assert np.linalg.norm(value - f(layer, x)) <= 0.1 + 1e-5
        # Choices that depend on ranges are made for all values of what is traced.
        assert np.all(np.array(traced[1:]) >= np.array(known[1:]) * (1 - 1e-5))
        assert traced[0] <= 0.1 * (1 + 1e-5)

    def test_closures_over_arrays(self):
        layer, x = arguments()
        known = smooth(lambda x: dense(layer, x), 0.1, ball(3.0))
        assert np.linalg.norm(known(x) - dense(layer, x)) <= 0.1 + 1e-6

        @jax.jit
        def traced(layer, x):
            return smooth(lambda x: dense(layer, x), 0.1, ball(3.0))(x)

        assert np.linalg.norm(traced(layer, x) - dense(layer, x)) <= 0.1 + 1e-6

    def test_no_tracer_leaks(self):
        layer, x = arguments()
        with jax.checking_leaks():
            f = smooth(dense, 0.1, (ball(3.0), ball(3.0)))
            jax.jit(jax.grad(lambda layer, x: jnp.sum(f(layer, x))))(layer, x)
            jax.jit(lambda eps: smooth(dense, eps, (ball(3.0), ball(3.0)))(layer, x))(0.1)
        f(layer, x)


class TestAnalysisOnce:
    def test_no_analysis_after_the_first(self, monkeypatch):
        layer, x = arguments()
        calls = []

        def counted(*args):
            calls.append(None)
            return propagate(*args)

        propagate = verification.propagate
        monkeypatch.setattr(verification, "propagate", counted)
        f = smooth(dense, 0.1, (ball(3.0), ball(3.0)))
        jax.jit(f)(layer, x)
        first = len(calls)
        total = lambda layer, x: jnp.sum(f(layer, x))  # noqa: E731
        f(layer, x)
        jax.grad(total)(layer, x)
        jax.jit(jax.vmap(jax.grad(total), (None, 0)))(layer, x[None])
        f.certificate(layer, x)
        assert first > 0
        assert len(calls) == first

    def test_threads(self):
        layer, x = arguments()
        f = smooth(dense, 0.1, (ball(3.0), ball(3.0)))
        results = []
        threads = [
            threading.Thread(target=lambda: results.append(np.asarray(f(layer, x))))
            for _ in range(4)
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert len(results) == 4
        close(results, [results[0]] * 4)


class TestArguments:
    def test_fixed_may_be_left_out_or_passed(self):
        layer, x = arguments()
        f = smooth(dense, 0.1, (fixed(layer), ball(3.0)))
        close(f(x), f(layer, x))
        close(f(x=x, layer=layer), f(x))

    def test_fixed_is_checked(self):
        layer, x = arguments()
        f = smooth(dense, 0.1, (fixed(layer), ball(3.0)))
        with pytest.raises(jaxsmooth.ArgumentError, match=r"args\[0\].*differs"):
            f(Layer(layer.w + 1, layer.b), x)
        with pytest.raises(jaxsmooth.BoundsError, match=r"args\[0\]"):
            f(Layer(layer.w, layer.b[:2]), x)

    def test_pytrees(self):
        x = arguments()[1]
        f = smooth(lambda p, x: {"y": jnp.abs(x) * p["a"], "n": None}, 0.1, (2.0, 1.0))
        out = f({"a": x, "none": None, "empty": {}}, x)
        assert set(out) == {"y", "n"}
        assert smooth(jnp.abs, 0.1, 1.0)(0.5).shape == ()

    def test_static_arguments(self):
        x = arguments()[1]
        f = smooth(functools.partial(lambda n, x: jnp.abs(x) * n, 3), 0.1, 1.0)
        assert np.linalg.norm(f(x) - 3 * abs(x)) <= 0.1 + 1e-6

    def test_shapes_from_bounds(self):
        f = smooth(jnp.abs, 0.1, box(np.zeros(3, np.float32) - 1, 1.0))
        assert f.certificate().sites[0].shape == (3,)


def mixed(y, x):
    """A pooled, normalised and soft view of two vectors of known and traced ranges."""
    pooled = lax.reduce_window(y, -jnp.inf, lax.max, (2,), (1,), "VALID")
    unit = x / jnp.sqrt(jnp.sum(x**2) + 1.0)
    return jax.nn.softmax(pooled) * jnp.max(unit) + jnp.tanh(jnp.sum(x)) * jnp.abs(pooled)


def logaddexp(x, y):
    """Written out, without the derivatives of `jax.numpy.logaddexp`."""
    return jnp.maximum(x, y) + jnp.log1p(jnp.exp(-jnp.abs(x - y)))


class TestPrograms:
    def test_without_kinks_nothing_changes(self):
        x = arguments()[1]
        f = smooth(jnp.tanh, 0.1, ball(2.0))
        assert f.certificate(x).error == 0
        assert (f(x) == jnp.tanh(x)).all()

    def test_eps_zero_gives_f(self):
        args = arguments()
        f = smooth(dense, 0.0, (ball(3.0), ball(3.0)))
        assert (f(*args) == dense(*args)).all()
        assert f.certificate(*args).smoothness == np.inf

    def test_smooth_inside_smooth(self):
        x = arguments()[1]
        inner = smooth(jnp.abs, 0.1, ball(2.0))
        outer = smooth(lambda x: jnp.maximum(inner(x), 0.2), 0.1, ball(1.0))
        exact = jnp.maximum(jnp.abs(x), 0.2)
        assert np.linalg.norm(outer(x) - exact) <= 0.2 + 1e-6

    def test_nested_jit_custom_derivatives_and_remat(self):
        @jax.custom_jvp
        def first(x):
            return jnp.abs(x)

        first.defjvp(lambda p, t: (first(*p), 7 * t[0]))

        @jax.custom_vjp
        def second(x):
            return jax.nn.relu(x)

        second.defvjp(lambda x: (second(x), None), lambda _, g: (7 * g,))

        @jax.checkpoint
        def third(x):
            return jnp.sin(jnp.abs(jnp.sin(x)))

        def f(x):
            return jax.jit(first)(x) + second(x[::-1])[::-1] + third(x[::-1])[::-1]

        f_eps = smooth(f, 1e-3, ball(2.0))
        x = jnp.asarray([0.7, -0.4, 0.3])
        assert len(f_eps.certificate(x).sites) == 3
        # The derivative is that of the smoothed program, not the old custom one.
        sign = jnp.sign(x)
        expected = sign + (x > 0) + jnp.cos(jnp.abs(jnp.sin(x))) * sign * jnp.cos(x)
        close(jax.grad(lambda x: f_eps(x).sum())(x), expected, 1e-3)
        assert "checkpoint" in str(jax.make_jaxpr(f_eps)(x)) or "remat" in str(
            jax.make_jaxpr(f_eps)(x)
        )

    def test_custom_derivatives_without_kinks_survive(self):
        @jax.custom_jvp
        def f(x):
            return jnp.sin(x)

        f.defjvp(lambda p, t: (f(*p), 7 * t[0]))
        f_eps = smooth(lambda x: f(x)[::-1] + jnp.abs(x), 1e-3, ball(2.0))
        close(jax.grad(lambda x: f_eps(x).sum())(jnp.ones(2)), 8 * jnp.ones(2), 1e-3)

    @pytest.mark.parametrize(
        "body",
        [
            jax.nn.softplus,
            lambda x: jnp.maximum(x, 0) + jnp.log1p(jnp.exp(-jnp.abs(x))),
            lambda x: lax.fori_loop(0, 2, lambda _, y: jax.nn.softplus(y), x),
        ],
    )
    def test_custom_derivatives_around_smooth_functions_survive(self, body):
        @jax.custom_jvp
        def f(x):
            return body(jnp.sin(x))

        f.defjvp(lambda p, t: (f(*p), 7 * t[0]))
        f_eps = smooth(lambda x: jnp.sum(f(x[::-1])) + jnp.sum(jnp.abs(x)), 1e-3, ball(2.0))
        close(jax.grad(f_eps)(jnp.ones(2)), 8 * jnp.ones(2), 1e-3)

    def test_what_is_wrong_is_mended_inside_custom_derivatives_that_are_smoothed(self):
        @jax.custom_jvp
        def f(x, y):
            return logaddexp(x, y) + jax.nn.relu(x + 0.5)

        f.defjvp(lambda p, t: (f(*p), 7 * t[0]))
        f_eps = smooth(f, 1e-3, (ball(1.0), ball(1.0)))
        for gradient, expected in zip(jax.grad(f_eps, (0, 1))(0.0, 0.0), (1.5, 0.5), strict=True):
            close(gradient, expected, 1e-5)

    def test_derivative_at_kinks_that_cancel(self):
        f = smooth(lambda x: jax.nn.relu(x) - jax.nn.relu(-x), 0.1, ball(1.0))
        assert jax.grad(f)(0.0) == 1.0

    @pytest.mark.parametrize(
        ("f", "slope", "curvature"),
        [
            (lambda x: jnp.maximum(x, 0) + jnp.log1p(jnp.exp(-jnp.abs(x))), 0.5, 0.25),
            (lambda x: jnp.maximum(x, 0) + jnp.log(1 + jnp.exp(-jnp.abs(x))), 0.5, 0.25),
            (lambda x: logaddexp(x, 2 * x), 1.5, 0.25),
            (lambda x: jnp.logaddexp(jax.nn.hard_swish(x), x), 0.75, 11 / 48),
            (lambda x: jnp.abs(jnp.maximum(x, 0)) - jnp.maximum(x, 0) + x, 1.0, 0.0),
            (lambda x: x + jnp.maximum(x, 0) ** 2 - jnp.abs(x) * jnp.maximum(x, 0), 1.0, 0.0),
            (lambda x: jnp.clip(x, 0, 1) + jnp.minimum(x, 0) + jnp.maximum(x - 1, 0), 1.0, 0.0),
            (lambda x: jnp.exp(x) ** 1.0 * x**0.0, 1.0, 1.0),
            (lambda x: x**1.0, 1.0, 0.0),
            # Values that a choice takes at one point alone.
            (lambda x: jnp.where(x == 0, 1.0, jnp.exp(x)), 1.0, 1.0),
            (lambda x: jnp.where(x != 0, jnp.exp(x), 1.0), 1.0, 1.0),
            (lambda x: (x != 0).astype(x.dtype) * jnp.sinh(x), 1.0, 0.0),
            (lambda x: jnp.sign(jnp.abs(x)) * x, 1.0, 0.0),
        ],
    )
    @pytest.mark.parametrize("dtype", [jnp.float32, jnp.float64])
    def test_smooth_functions_of_parts_that_are_not(self, f, slope, curvature, dtype):
        # By JAX, the size of 0 has slope 1 and the maximum 1/2: together that is wrong.
        with jax.enable_x64(True):
            f_eps = smooth(f, 0.1, ball(0.25))
            for x in (0.0, 1e-30, -1e-30):
                x = dtype(x)
                for found in (jax.grad(f_eps)(x), jax.jvp(f_eps, (x,), (dtype(1),))[1]):
                    close(found, slope, 1e-6)
                close(jax.grad(jax.grad(f_eps))(x), curvature, 1e-6)
                assert jax.jit(f_eps)(x) == f(x)

    def test_a_smooth_maximum_by_hand_has_its_own_derivative_where_both_are_equal(self):
        def f(x, y):
            return jnp.sum(logaddexp(x, y))

        f_eps = smooth(f, 0.1, (ball(1.0), ball(1.0)))
        assert f_eps.certificate(jnp.zeros(3), jnp.zeros(3)).sites == ()
        for gradient in jax.grad(f_eps, (0, 1))(jnp.zeros(3), jnp.zeros(3)):
            close(gradient, 0.5 * jnp.ones(3), 1e-6)

    @pytest.mark.parametrize("dtype", [jnp.bfloat16, jnp.float16, jnp.float32])
    def test_dtypes_are_kept(self, dtype):
        layer, x = jax.tree.map(lambda a: a.astype(dtype), arguments())
        f = smooth(dense, 0.1, (ball(3.0), ball(3.0)))
        assert f(layer, x).dtype == dtype
        assert jax.grad(lambda x: f(layer, x).sum())(x).dtype == dtype


class TestAllocations:
    def test_explicit(self):
        args = arguments()
        named = smoothed("dense").certificate(*args)
        path = named.sites[0].path
        again = smooth(
            dense, 0.1, (ball(3.0), ball(3.0)), allocation={path: named.sites[0].mu}
        ).certificate(*args)
        close(again.smoothness, named.smoothness)
        half = smooth(
            dense, 0.1, (ball(3.0), ball(3.0)), allocation={path: share(0.5)}
        ).certificate(*args)
        close(half.error, 0.05)

    def test_optimal_is_not_worse(self):
        def f(p):
            return jnp.abs(p["w"]).sum() + jnp.abs(p["b"]).sum()

        bounds = ball(1.0, {"w": np.zeros((6, 6), np.float32), "b": np.zeros(2, np.float32)})
        found = {
            name: smooth(f, 0.1, bounds, allocation=name).certificate().smoothness
            for name in ("optimal", "uniform", "halving")
        }
        assert found["optimal"] <= min(found.values()) * (1 + 1e-9)
        # Equal accuracies per element are best here: 38 elements share eps.
        assert found["optimal"] <= 1.02 * 38 / (4 * 0.1)
