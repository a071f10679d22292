"""Loops and branches of every form: smoothed, differentiated, or refused for a reason."""

from __future__ import annotations

import re

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax

import jaxsmooth
from jaxsmooth import analyze, anything, ball, box, fixed, smooth

RNG = np.random.default_rng(3)
W = (RNG.normal(size=(3, 3)) * 0.4).astype(np.float32)
X = jnp.asarray(RNG.normal(size=3) * 0.3, jnp.float32)
XS = jnp.asarray(RNG.normal(size=(4, 3)) * 0.2, jnp.float32)
HERE = re.escape("test_programs.py:")


def step(h, x):
    h = jax.nn.relu(W @ h + x)
    return h, h


def zeros():
    return jnp.zeros(3, jnp.float32)


def triangle(xs):
    """The inner loop reads numbers that differ from one outer step to the next."""

    def outer(h, ix):
        i, x = ix
        h, _ = lax.scan(lambda h, d: (jnp.abs(h - d * i), None), h, jnp.asarray([0.1, 0.2]))
        return h + x, h.max()

    return lax.scan(outer, zeros(), (jnp.arange(4.0), xs))


def dropout(x):
    def one(carry, _):
        h, key = carry
        key, use = jax.random.split(key)
        kept = jax.random.bernoulli(use, 0.5, h.shape)
        return (jax.nn.relu(W @ jnp.where(kept, 2 * h, 0.0)), key), None

    return lax.scan(one, (x, jax.random.key(0)), length=3)[0][0]


FORMS = {
    "scan": (lambda xs: lax.scan(step, zeros(), xs), XS),
    "reverse": (lambda xs: lax.scan(step, zeros(), xs, reverse=True), XS),
    "unroll": (lambda xs: lax.scan(step, zeros(), xs, unroll=2), XS),
    "no stack": (lambda x: lax.scan(lambda h, _: (jnp.abs(W @ h) - 0.1, h), x, length=3), X),
    "no carry": (lambda xs: lax.map(lambda x: jnp.abs(x).max(), xs), XS),
    "no steps": (lambda xs: lax.scan(step, xs.sum(0), xs[:0])[0], XS),
    "fori": (lambda x: lax.fori_loop(0, 3, lambda i, c: jnp.maximum(W @ c, 0.1 * i), x), X),
    "while": (
        lambda x: lax.while_loop(
            lambda c: c[0] < 7, lambda c: (2 * c[0] + 1, jnp.abs(c[1]) - 0.1), (0, x)
        )[1],
        X,
    ),
    "index": (lambda xs: lax.fori_loop(0, 4, lambda i, h: jax.nn.relu(h + xs[i]), zeros()), XS),
    "jit": (lambda xs: jax.jit(lambda xs: lax.scan(jax.jit(step), zeros(), xs))(xs), XS),
    "remat": (lambda xs: lax.scan(jax.checkpoint(step), zeros(), xs), XS),
    "remat of all": (
        jax.checkpoint(lambda xs: lax.scan(jax.checkpoint(step), zeros(), xs)),
        XS,
    ),
    "composite": (
        lambda xs: lax.scan(lambda h, x: (jax.nn.softmax(jax.nn.relu(W @ h) + x), h), zeros(), xs),
        XS,
    ),
    "region": (lambda xs: lax.scan(lambda h, x: (jax.nn.hard_swish(h + x), h), zeros(), xs), XS),
    "nested": (
        lambda xs: lax.scan(lambda h, x: (lax.fori_loop(0, 2, lambda i, h: jnp.maximum(
            W @ h, 0.1 * i), h) + x, h), zeros(), xs),
        XS,
    ),
    "triangle": (triangle, XS),
    "dropout": (dropout, X),
    "by turns": (
        lambda x: lax.fori_loop(
            0, 3, lambda i, c: lax.cond(i % 2 == 0, jnp.abs, lambda c: jnp.maximum(c, 0.1), c), x
        ),
        X,
    ),
    "known branch": (lambda x: lax.cond(np.arange(3).sum() > 2, jnp.abs, jnp.sin, x), X),
    "known branch with a region of its own": (
        lambda x: lax.cond(
            jnp.arange(3).sum() > 2, lambda x: jax.nn.hard_swish(4 * (W @ x)), jnp.sin, x
        ),
        X,
    ),
    "known branch that ends in what is repaired": (
        lambda x: lax.cond(
            jnp.arange(3).sum() > 2,
            lambda x: (lambda s: jnp.where(jnp.isinf(s), 0.2, s))(
                jnp.sort(jnp.where(np.arange(x.size) % 2 == 0, x, jnp.inf))
            ),
            jnp.sin,
            x,
        ),
        X,
    ),
    "switch": (lambda x: lax.switch(5, [jnp.sin, jnp.cos, jnp.abs], x), X),
    "decided branch": (lambda x: lax.cond(x.sum() > 9.0, jnp.sin, jnp.abs, x), X),
}  # fmt: skip


@pytest.fixture(scope="module")
def smoothed():
    return {name: smooth(f, 0.05, ball(1.0)) for name, (f, _) in FORMS.items()}


def numbers(tree):
    return jnp.concatenate([jnp.ravel(leaf) for leaf in jax.tree.leaves(tree)])


@pytest.mark.parametrize("name", FORMS)
class TestForms:
    def test_values_and_types(self, smoothed, name):
        f, x = FORMS[name]
        y, z = f(x), smoothed[name](x)
        assert jax.tree.map(lambda a: (a.shape, a.dtype), y) == jax.tree.map(
            lambda a: (a.shape, a.dtype), z
        )
        certificate = smoothed[name].certificate(x)
        assert np.linalg.norm(numbers(y) - numbers(z)) <= certificate.error * (1 + 1e-5) + 1e-6
        assert certificate.error <= 0.05
        assert jaxsmooth.Certificate.from_json(certificate.to_json()).error == certificate.error
        assert all(site.path in certificate.to_json() for site in certificate.sites)
        assert certificate.table()

    def test_derivatives(self, smoothed, name):
        _, x = FORMS[name]
        f_eps = smoothed[name]
        total = lambda x: jnp.sum(jnp.sin(numbers(f_eps(x))))  # noqa: E731
        forward, reverse = jax.jacfwd(total)(x), jax.jit(jax.grad(total))(x)
        np.testing.assert_allclose(forward, reverse, atol=1e-5)
        batch = jnp.stack([x, x / 2])
        np.testing.assert_allclose(
            jax.vmap(jax.grad(total))(batch)[1], jax.grad(total)(x / 2), atol=1e-5
        )
        slope = jnp.linalg.norm(jax.jacobian(lambda x: numbers(f_eps(x)))(x).reshape(-1, x.size), 2)
        assert slope <= f_eps.certificate(x).lipschitz * (1 + 1e-5)

    def test_eps_zero_gives_f(self, name):
        f, x = FORMS[name]
        np.testing.assert_array_equal(numbers(smooth(f, 0.0, ball(1.0))(x)), numbers(f(x)))

    def test_analysis(self, name):
        f, x = FORMS[name]
        found = analyze(f, ball(1.0))(x)
        pairs = jax.tree.leaves(found.range, is_leaf=lambda r: isinstance(r, tuple) and
                                not isinstance(r[0], tuple))  # fmt: skip
        for (lo, hi), y in zip(pairs, jax.tree.leaves(f(x)), strict=True):
            assert (lo <= y + 1e-5).all()
            assert (y - 1e-5 <= hi).all()


class TestKnownNumbers:
    def test_trip_count_that_is_fixed(self):
        f = lambda x, n: lax.fori_loop(0, n, lambda i, c: jnp.abs(c) - 0.1 * i, x)  # noqa: E731
        f_eps = smooth(f, 0.1, (ball(1.0), fixed(4)))
        assert np.linalg.norm(f_eps(X, 4) - f(X, 4)) <= 0.1
        (site,) = f_eps.certificate(X, 4).sites
        assert site.shape == (4, 3)
        # f itself has no derivative in reverse mode.
        assert jnp.isfinite(jax.grad(lambda x: f_eps(x, 4).sum())(X)).all()

    @pytest.mark.parametrize("wrap", [lambda f: f, jax.jit], ids=["plain", "in a call"])
    def test_reverse_mode_where_nothing_is_smoothed(self, wrap):
        f = wrap(
            lambda x: lax.while_loop(
                lambda c: c[0] < 3, lambda c: (c[0] + 1, jnp.tanh(c[1]) + x), (0, x)
            )[1]
        )
        f_eps = smooth(f, 0.1, box(-1.0, 1.0))
        np.testing.assert_allclose(jax.jacrev(f_eps)(X), jax.jacfwd(f)(X), rtol=1e-6)

    def test_inside_jit(self):
        f = FORMS["while"][0]
        np.testing.assert_allclose(
            jax.jit(lambda x: smooth(f, 0.1, ball(1.0))(x))(X), smooth(f, 0.1, ball(1.0))(X)
        )

    def test_branch_by_a_fixed_argument_has_no_other_sites(self):
        f = lambda x, n: lax.cond(n > 0, jnp.abs, lambda x: jnp.maximum(x, 0.1), x)  # noqa: E731
        for n, name in ((0, "max"), (1, "abs")):
            (site,) = smooth(f, 0.1, (ball(1.0), fixed(n))).certificate(X, n).sites
            assert site.primitive == name

    def test_no_tracer_leaks(self):
        with jax.checking_leaks():
            f_eps = smooth(FORMS["nested"][0], 0.1, ball(1.0))
            jax.jit(jax.grad(lambda x: numbers(f_eps(x)).sum()))(XS)
        f_eps(XS)

    def test_traced_accuracy(self):
        f = lambda x: lax.scan(lambda c, s: (jnp.abs(c - s), None), x, jnp.arange(2.0))[0]  # noqa: E731
        value = jax.jit(lambda eps: smooth(f, eps, ball(1.0))(X))(0.1)
        np.testing.assert_allclose(value, smooth(f, 0.1, ball(1.0))(X), atol=1e-6)


REFUSED = {
    "while": (
        lambda x: lax.while_loop(lambda c: c.sum() > 0, lambda c: c - 1, x),
        r"'while' at .*{}\d+.*stops by a condition .*jax\.lax\.fori_loop",
    ),
    "cond": (
        lambda x: lax.cond(x[0] > 0, jnp.sin, jnp.cos, x),
        r"'cond' at .*{}\d+.*chooses a branch by numbers that vary.*jnp\.where",
    ),
    "switch": (
        lambda x: lax.switch((3 * x[0]).astype(int), [jnp.sin, jnp.cos], x),
        r"'cond' at .*{}\d+.*chooses a branch",
    ),
    "cond in a loop": (
        lambda x: lax.fori_loop(0, 2, lambda i, c: lax.cond(c[0] > 0, jnp.sin, jnp.cos, c), x),
        r"'cond' at .*{}\d+.*path scan/.*chooses a branch",
    ),
    "rounding in a loop": (
        lambda x: lax.fori_loop(0, 2, lambda i, c: jnp.floor(c), x),
        r"'floor' at .*{}\d+.*path scan/floor",
    ),
}


@pytest.mark.parametrize("name", REFUSED)
def test_discontinuities(name):
    f, text = REFUSED[name]
    with pytest.raises(jaxsmooth.DiscontinuityError, match=text.format(HERE)):
        smooth(f, 0.1, ball(1.0)).certificate(X)


def test_unknown_trip_count():
    f = lambda x, n: lax.fori_loop(0, n, lambda i, c: jnp.abs(c), x)  # noqa: E731
    with pytest.raises(jaxsmooth.UnsupportedPrimitiveError, match=rf"'while' at .*{HERE}.*fixed"):
        smooth(f, 0.1, (ball(1.0), anything())).certificate(X, 3)


def test_trip_count_that_differs_from_step_to_step():
    f = lambda x: lax.fori_loop(  # noqa: E731
        0, 3, lambda i, c: lax.fori_loop(0, i, lambda j, c: jnp.abs(c), c), x
    )
    with pytest.raises(jaxsmooth.UnsupportedPrimitiveError, match="a loop around it"):
        smooth(f, 0.1, ball(1.0)).certificate(X)


def test_remat_of_branches_with_operands_that_nothing_reads():
    @jax.checkpoint
    def f(x, n):
        a = jnp.sin(x)
        b = lax.cond(n > 0, lambda a, b: a, lambda a, b: jnp.cos(a), x, 2 * x)
        c = jax.jit(lambda a, b: b)(x, a)
        return jnp.abs(c - 0.1) + b

    f_eps = smooth(f, 0.1, (ball(1.0), anything()))
    assert np.linalg.norm(f_eps(X, 1) - f(X, 1)) <= 0.1
    assert jnp.isfinite(jax.grad(lambda x: f_eps(x, 1).sum())(X)).all()


class TestManySteps:
    """The cost of the analysis grows with the number of steps, the program's size does not."""

    def test_relu_network(self):
        w = (RNG.normal(size=(32, 32)) * 0.45 / np.sqrt(32)).astype(np.float32)

        def f(xs):
            return lax.scan(lambda h, x: (jax.nn.relu(w @ h + x), None), jnp.zeros(32), xs)[0]

        lengths = []
        for steps in (10, 300):
            f_eps = smooth(f, 0.1, box(np.full((steps, 32), -1, np.float32), 1.0))
            certificate = f_eps.certificate()
            assert len(certificate.sites) == 1
            assert np.isfinite(certificate.smoothness)
            lengths.append(len(str(jax.make_jaxpr(f_eps)(np.zeros((steps, 32), np.float32)))))
        assert lengths[1] <= 1.1 * lengths[0]

    def test_ranges_of_gated_cells_stay_finite(self):
        xs = np.zeros((100, 4), np.float32)
        for cell in (nn.LSTMCell(8), nn.GRUCell(8)):
            model = nn.RNN(cell)
            parameters = model.init(jax.random.key(0), xs)
            found = analyze(
                lambda xs, model=model, p=parameters: model.apply(p, xs)[-1], box(xs - 1, xs + 1)
            )()
            assert found.bound <= np.sqrt(8) * (1 + 1e-6)
            assert np.isfinite(found.lipschitz)


def test_explicit_accuracies_of_two_sites_in_a_loop():
    def f(x):
        def step(carry, _):
            return jnp.abs(jax.nn.relu(carry) - 0.5), None

        return lax.scan(step, x, length=3)[0]

    x = jnp.linspace(-1, 1, 5)
    found = smooth(f, 0.1, ball(2.0)).certificate(x)
    assert len(found.sites) == 2
    chosen = {s.path: np.broadcast_to(s.mu, (3, 5)) * [[0.5], [0.7], [0.9]] for s in found.sites}
    f_eps = smooth(f, 0.1, ball(2.0), allocation=chosen)
    assert f_eps.certificate(x).error <= 0.1
    assert 0 < jnp.linalg.norm(f_eps(x) - f(x)) <= f_eps.certificate(x).error
