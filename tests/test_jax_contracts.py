"""What the library reads of JAX's structural primitives: a new JAX fails here first."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax
from jax.extend.core import primitives as p

from jaxsmooth import _compat
from jaxsmooth.program.complex_structure import STACK
from jaxsmooth.program.graph import Call, Switch, from_jaxpr

X = jnp.ones(3)


def equation(f, *args, primitive):
    closed = jax.make_jaxpr(f)(*args)
    found = [e for e in closed.jaxpr.eqns if e.primitive is primitive]
    assert len(found) == 1
    return found[0]


def every(jaxpr):
    """All equations, those of custom derivatives too."""
    for e in jaxpr.eqns:
        yield e
        body = _compat.call_body(e)
        if body is not None:
            yield from every(body[0])


def names(jaxpr):
    return [e.primitive.name for e in _compat.open_jaxpr(jaxpr)[0].eqns]


class TestScan:
    def trace(self, reverse=False):
        def f(w, x, xs):
            def step(carry, s):
                a, n = carry
                return (jnp.maximum(a * w, s["p"]), n + 1), (a, s["q"] * 2)

            return lax.scan(step, (x, 0), {"p": xs, "q": xs[:, 0]}, reverse=reverse, unroll=2)

        return equation(f, 2.0, X, jnp.ones((5, 3)), primitive=p.scan_p)

    def test_operands_are_constants_carry_stacks(self):
        e = self.trace()
        assert _compat.scan_layout(e.params) == (1, 2)
        assert [v.aval.shape for v in e.invars] == [(), (3,), (), (5, 3), (5,)]
        jaxpr, consts = _compat.open_jaxpr(e.params["jaxpr"])
        assert not consts
        assert [v.aval.shape for v in jaxpr.invars] == [(), (3,), (), (3,), ()]

    def test_results_are_carry_and_stacks(self):
        e = self.trace()
        assert [v.aval.shape for v in e.outvars] == [(3,), (), (5, 3), (5,)]
        jaxpr, _ = _compat.open_jaxpr(e.params["jaxpr"])
        assert [v.aval.shape for v in jaxpr.outvars] == [(3,), (), (3,), ()]

    @pytest.mark.parametrize("reverse", [False, True])
    def test_parameters(self, reverse):
        e = self.trace(reverse)
        assert e.params["length"] == 5
        assert e.params["reverse"] is reverse
        assert e.params["unroll"] == 2

    def test_layout_of_differentiated_scans(self):
        f = jax.grad(lambda x: lax.fori_loop(0, 3, lambda i, c: jnp.sin(c) * i, x))
        closed = jax.make_jaxpr(f)(1.0)
        scans = [e for e in closed.jaxpr.eqns if e.primitive is p.scan_p]
        for e in scans:
            consts, carry = _compat.scan_layout(e.params)
            stacks = len(e.invars) - consts - carry
            jaxpr, _ = _compat.open_jaxpr(e.params["jaxpr"])
            assert len(jaxpr.invars) == consts + carry + stacks
            assert all(
                outer.aval.shape[1:] == inner.aval.shape
                for outer, inner in zip(
                    e.invars[consts + carry :], jaxpr.invars[consts + carry :], strict=True
                )
            )

    def test_graph(self):
        closed = jax.make_jaxpr(lambda x: lax.scan(lambda c, s: (c + s, c), 0.0, x))(X)
        (node,) = [e for e in from_jaxpr(closed).body if e.loop is not None]
        loop = node.loop
        assert (loop.length, len(loop.carry), len(loop.slices), len(loop.slots)) == (3, 1, 1, 1)


class TestWhile:
    def test_operands_are_constants_of_both_and_carry(self):
        def f(x, n, w):
            return lax.while_loop(lambda c: c[0] < n, lambda c: (c[0] + 1, c[1] * w), (0, x))

        e = equation(f, X, 3, 2.0, primitive=p.while_p)
        assert (e.params["cond_nconsts"], e.params["body_nconsts"]) == (1, 1)
        assert [v.aval.shape for v in e.invars] == [(), (), (), (3,)]
        assert [v.aval.dtype.kind for v in e.invars] == ["i", "f", "i", "f"]
        assert names(e.params["cond_jaxpr"]) == ["lt"]
        assert {"add", "mul"} <= set(names(e.params["body_jaxpr"]))

    def test_known_bounds_give_a_scan(self):
        equation(lambda x: lax.fori_loop(0, 3, lambda i, c: c * i, x), X, primitive=p.scan_p)

    def test_traced_bounds_give_a_while(self):
        f = lambda x, n: lax.fori_loop(0, n, lambda i, c: c * i, x)  # noqa: E731
        equation(f, X, 3, primitive=p.while_p)


class TestCond:
    def test_operands_are_the_index_and_what_branches_read(self):
        f = lambda x, n: lax.cond(n > 0, jnp.sin, jnp.cos, x)  # noqa: E731
        e = equation(f, X, 1, primitive=p.cond_p)
        assert [v.aval.shape for v in e.invars] == [(), (3,)]
        # False is 0.
        assert [names(b) for b in e.params["branches"]] == [["cos"], ["sin"]]

    def test_switch(self):
        f = lambda x, n: lax.switch(n, [jnp.sin, jnp.cos, jnp.tan], x)  # noqa: E731
        e = equation(f, X, 1, primitive=p.cond_p)
        assert [names(b) for b in e.params["branches"]] == [["sin"], ["cos"], ["tan"]]
        assert e.invars[0].aval.dtype == jnp.int32
        graph = from_jaxpr(jax.make_jaxpr(f)(X, 1))
        (node,) = [n for n in graph.body if isinstance(n, Switch)]
        assert len(node.branches) == 3


def _jvp(x):
    @jax.custom_jvp
    def f(x):
        return jnp.sin(x)

    f.defjvp(lambda p, t: (f(*p), t[0]))
    return f(x)


def _vjp(x):
    @jax.custom_vjp
    def f(x):
        return jnp.sin(x)

    f.defvjp(lambda x: (f(x), None), lambda _, g: (g,))
    return f(x)


@pytest.mark.parametrize(
    ("f", "primitive"),
    [
        (jax.jit(jnp.sin), p.jit_p),
        (jax.checkpoint(jnp.sin), p.remat_p),
        (_jvp, p.custom_jvp_call_p),
        (_vjp, p.custom_vjp_call_p),
    ],
    ids=["jit", "remat", "custom_jvp", "custom_vjp"],
)
def test_calls(f, primitive):
    e = equation(f, X, primitive=primitive)
    jaxpr, consts = _compat.call_body(e)
    assert not consts
    assert len(jaxpr.invars) == len(e.invars)
    assert [q.primitive.name for q in jaxpr.eqns][-1] == "sin"
    (node,) = from_jaxpr(jax.make_jaxpr(f)(X)).body
    assert isinstance(node, Call)
    assert node.rematerialised is (primitive is p.remat_p)


class TestComplexNumbers:
    def transformed(self, x, kind, lengths):
        (call,) = jax.make_jaxpr(lambda x: lax.fft(x, kind, lengths))(x).jaxpr.eqns
        jaxpr, _ = _compat.call_body(call)
        (e,) = jaxpr.eqns
        assert e.primitive is p.fft_p
        return e

    @pytest.mark.parametrize("kind", ["fft", "ifft", "rfft", "irfft"])
    def test_transforms_have_kind_and_lengths_of_the_last_axes(self, kind):
        x = jnp.ones((3, 4), jnp.float32 if kind == "rfft" else jnp.complex64)
        transform = lax.FftType[kind.upper()]
        e = self.transformed(x, transform, (6,) if kind == "irfft" else (4,))
        assert e.params["fft_type"].name == kind.upper()
        assert tuple(e.params["fft_lengths"]) == ((6,) if kind == "irfft" else (4,))
        shape = {"rfft": (3, 3), "irfft": (3, 6)}.get(kind, (3, 4))
        assert e.outvars[0].aval.shape == shape

    def test_transforms_of_several_axes_halve_the_last(self):
        e = self.transformed(jnp.ones((3, 4)), lax.FftType.RFFT, (3, 4))
        assert e.outvars[0].aval.shape == (3, 3)

    def test_parts_and_conjugates_have_one_operand(self):
        z = jnp.ones(3, jnp.complex64)
        for f, primitive in ((jnp.real, p.real_p), (jnp.imag, p.imag_p), (jnp.conj, p.conj_p)):
            assert len(equation(f, z, primitive=primitive).invars) == 1
        assert len(equation(lax.complex, X, X, primitive=p.complex_p).invars) == 2
        assert equation(lax.abs, z, primitive=p.abs_p).outvars[0].aval.dtype == jnp.float32

    def test_indexing_counts_axes_from_the_first(self):
        """An axis that is added last leaves the numbers of all others."""
        z, indices = jnp.ones((4, 3), jnp.complex64), jnp.array([[0], [2]])
        numbers = lax.GatherDimensionNumbers((1,), (0,), (0,))
        e = equation(lambda z: lax.gather(z, indices, numbers, (1, 3)), z, primitive=p.gather_p)
        found = e.params["dimension_numbers"]
        assert found._replace(offset_dims=(1, 2)).offset_dims == (1, 2)
        assert tuple(e.params["slice_sizes"]) == (1, 3)
        numbers = lax.ScatterDimensionNumbers((1,), (0,), (0,))
        e = equation(lambda z: lax.scatter(z, indices, z[:2], numbers), z, primitive=p.scatter_p)
        found = e.params["dimension_numbers"]
        assert found._replace(update_window_dims=(1, 2)).update_window_dims == (1, 2)


class TestChoices:
    """Indices that are made of conditions."""

    def test_argmax_and_cumsum_have_an_axis(self):
        e = equation(lambda x: jnp.argmax(x > 0, 1), jnp.ones((2, 3)), primitive=p.argmax_p)
        assert tuple(e.params["axes"]) == (1,)
        e = equation(lambda x: lax.cumsum(x, 1), jnp.ones((2, 3)), primitive=p.cumsum_p)
        assert (e.params["axis"], e.params["reverse"]) == (1, False)

    def test_stacks_and_concatenations_have_an_axis(self):
        e = equation(lambda x: lax.concatenate([x, x], 1), X[None], primitive=p.concatenate_p)
        assert e.params["dimension"] == 1
        (e,) = jax.make_jaxpr(lambda x: jnp.stack([x, x], 1))(X).jaxpr.eqns[-1:]
        assert e.params["axis" if e.primitive is STACK else "dimension"] == 1

    def test_the_index_chooses_first(self):
        cases = [X, 2 * X, 3 * X]
        e = equation(lambda i: lax.select_n(i, *cases), jnp.zeros(3, int), primitive=p.select_n_p)
        assert len(e.invars) == 4
        assert e.invars[0].aval.dtype == jnp.zeros(3, int).dtype
        assert np.array_equal(lax.select_n(jnp.arange(3), *cases), [1, 2, 3])

    def test_a_cond_under_vmap_stops_what_is_not_chosen(self):
        f = jax.vmap(lambda t: lax.cond(t > 0, jnp.sin, jnp.cos, t))
        eqns = jax.make_jaxpr(f)(X).jaxpr.eqns
        made = {v: e for e in eqns for v in e.outvars}
        last = eqns[-1]
        assert last.primitive is p.select_n_p
        for case, branch in enumerate(last.invars[1:]):
            (mask,) = made[branch].invars
            which, stopped, value = made[mask].invars
            assert made[mask].primitive is p.select_n_p
            assert made[stopped].primitive is p.stop_gradient_p
            assert made[stopped].invars == [value]
            index, number = made[which].invars
            assert made[which].primitive is p.eq_p
            assert index is last.invars[0]
            assert number.val == case


PARAMETERS_FIRST = {
    "igamma": (p.igamma_p, jax.scipy.special.gammainc, (2.0,)),
    "igammac": (p.igammac_p, jax.scipy.special.gammaincc, (2.0,)),
    "betainc": (p.regularized_incomplete_beta_p, jax.scipy.special.betainc, (2.0, 3.0)),
    "polygamma": (p.polygamma_p, jax.scipy.special.polygamma, (1,)),
    "zeta": (p.zeta_p, jax.scipy.special.zeta, (2.0,)),
}


@pytest.mark.parametrize("name", PARAMETERS_FIRST)
def test_special_functions_have_the_variable_last(name):
    primitive, f, parameters = PARAMETERS_FIRST[name]
    jaxpr = jax.make_jaxpr(lambda x: f(*parameters, x))(X)
    (e,) = [e for e in every(jaxpr.jaxpr) if e.primitive is primitive]
    assert len(e.invars) == len(parameters) + 1
    assert e.invars[-1].aval.shape == (3,)
    values = e.primitive.bind(*(jnp.full(3, c, X.dtype) for c in parameters), 0.5 * X)
    assert jnp.allclose(values, f(*parameters, 0.5 * X))


class TestLinearSystems:
    MATRIX = jnp.eye(3)

    @pytest.mark.parametrize("left", [False, True])
    def test_triangular_solve(self, left):
        """The matrix first; batch axes in front of both."""

        def f(a, b):
            return lax.linalg.triangular_solve(
                a, b, left_side=left, lower=True, transpose_a=True, unit_diagonal=True
            )

        e = equation(f, self.MATRIX[None], jnp.ones((1, 3, 3)), primitive=p.triangular_solve_p)
        assert [v.aval.shape for v in e.invars] == [(1, 3, 3), (1, 3, 3)]
        wanted = {"left_side": left, "lower": True, "transpose_a": True, "unit_diagonal": True}
        assert {k: e.params[k] for k in wanted} == wanted

    def test_tridiagonal_solve(self):
        """The diagonals from the lowest, of full length, and the right-hand side."""
        below, middle, above = (jnp.array(d) for d in ([9.0, 1, 2], [4.0, 5, 6], [0.5, 0.25, 9]))
        solve = lax.linalg.tridiagonal_solve
        e = equation(solve, below, middle, above, X[:, None], primitive=p.tridiagonal_solve_p)
        assert [v.aval.shape for v in e.invars] == [*3 * [(3,)], (3, 1)]
        matrix = jnp.diag(middle) + jnp.diag(below[1:], -1) + jnp.diag(above[:-1], 1)
        found = solve(below, middle, above, X[:, None])
        np.testing.assert_allclose(matrix @ found, X[:, None], rtol=1e-5)

    @pytest.mark.parametrize("collective", [lax.psum, lax.pmax, lax.pmin])
    def test_collectives_over_axes_of_arrays(self, collective):
        """Under vmap they name the axes of one operand each by numbers."""
        mapped = jax.vmap(lambda x: collective(x, "i"), axis_name="i")
        key = {"psum": p.psum_p, "pmax": p.pmax_p, "pmin": p.pmin_p}[collective.__name__]
        e = equation(mapped, self.MATRIX, primitive=key)
        assert (e.params["axes"], e.params["axis_index_groups"]) == ((0,), None)
        assert len(e.invars) == 1
        assert e.outvars[0].aval.shape == (3,)

    def test_linear_solve(self):
        """Constants of the product first, right-hand sides last."""

        def f(a, b):
            return lax.custom_linear_solve(lambda x: a @ x, b, lambda _, b: b, symmetric=True)

        e = equation(f, self.MATRIX, X, primitive=p.linear_solve_p)
        assert e.params["const_lengths"].matvec == 1
        assert len(e.invars) == sum(e.params["const_lengths"]) + 1
        assert [v.aval.shape for v in (e.invars[0], e.invars[-1])] == [(3, 3), (3,)]
        product = e.params["jaxprs"].matvec
        assert _compat.is_jaxpr(product)
        assert not _compat.is_jaxpr(e.params["const_lengths"])
        assert names(product) == ["dot_general"]
