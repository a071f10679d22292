"""Searches for points of the declared set that contradict a certificate.

The tools are chosen for piecewise smooth functions, whose curvature sits in windows so
narrow that random points miss them:

- samples: corners, faces, the boundary of balls, the inside;
- secants of the Jacobian, bisected: one of the two halves of a segment has at least the
  secant of the whole, so that bisection walks into the window where the slope turns;
- gradient ascent on the error, from samples and from those windows;
- ascent on the norm of the Jacobian, and power iteration on second derivatives.

Only the rounding of the evaluation itself is allowed for.
"""

from __future__ import annotations

import functools
import hashlib
from typing import Any

import jax
import numpy as np

import jaxsmooth
from tests.soundness.claims import Evidence, flat_range
from tests.soundness.evaluation import BATCH, Evaluation, Values
from tests.soundness.programs import Program
from tests.soundness.spectra import norms, singular, unit


class Attack:
    """One program under attack.

    Args:
        program: the program.
        seed: of the random points.
        effort: multiplies the number of starting points.
    """

    def __init__(self, program: Program, seed: int = 0, effort: int = 1) -> None:
        self.program = program
        self.rng = np.random.default_rng(seed)
        self.effort = effort
        self.evidence = Evidence()
        self.roundoff = 2.0**-52 if program.double else 2.0**-23
        self._certify()
        self.evaluation = Evaluation(program, self._smoothed)

    def _smooth(self, eps: Any) -> Any:
        p = self.program
        options = {k: v for k, v in p.options.items() if k != "eps"}
        if options["allocation"] == "explicit":
            options["allocation"] = self._explicit()
        return jaxsmooth.smooth(p.function, eps, p.bounds, argnums=p.argnums, **options)

    @functools.cache  # noqa: B019 (one attack lives as long as its program)
    def _explicit(self) -> dict[str, Any]:
        """Random parts, none at some sites, of what equal shares would give."""
        p = self.program
        options = {**p.options, "allocation": "uniform"}
        uniform = jaxsmooth.smooth(
            p.function, options.pop("eps"), p.bounds, argnums=p.argnums, **options
        )
        parts = self.rng.choice([1.0, 0.9, 0.5, 0.1, 0.0], 50, p=[0.3, 0.25, 0.2, 0.2, 0.05])
        sites = uniform.certificate(*p.arguments).sites
        return {site.path: site.mu * parts[i % 50] for i, site in enumerate(sites)}

    def _smoothed(self, eps: Any, *arguments: Any) -> Any:
        """f_eps, with a tracer for eps where the program says so."""
        smoothed = self._smooth(eps) if self.program.traced else self._at_known_eps
        return smoothed(*arguments)

    @functools.cached_property
    def _at_known_eps(self) -> Any:
        """f_eps, analysed once for the certificate and all that evaluates it."""
        return self._smooth(self.program.options["eps"])

    def _certify(self) -> None:
        """Read the claims off the certificate and the analysis."""
        p, e = self.program, self.evidence
        eps = p.options["eps"]
        if p.options["allocation"] == "explicit":
            self._explicit()

        if p.traced:
            certificate = jax.jit(lambda accuracy: self._smooth(accuracy).certificate(*p.arguments))
            found = certificate(p.dtype(eps))
        else:
            found = self._at_known_eps.certificate(*p.arguments)
        found = jax.tree.map(np.asarray, found)
        self.certificate = found
        if not found.error <= eps * (1 + 4 * self.roundoff):
            e.contradict(f"certified error {found.error} exceeds eps {eps}")
        chosen = p.options["allocation"] != "explicit" and eps > 0
        # Traced constants have the range of the dtype.
        if chosen and (p.double or not p.traced) and not np.isfinite(found.smoothness):
            e.contradict(f"no accuracy makes the smoothness constant {found.smoothness} finite")
        e.claim("error", found.error)
        e.claim("bound", found.bound)
        e.claim("lipschitz", found.lipschitz)
        e.claim("smoothness", found.smoothness)
        everything = np.zeros(p.region.size, bool)
        moving = np.zeros(p.region.size, bool)
        for where, section in p.region.sections:
            moving[where] = section.scale > 0
        # What is varied, what is read, and the claim on it.
        self.views: dict[str, tuple[np.ndarray, np.ndarray]] = {}
        for argument in p.varied:
            own = np.zeros_like(everything)
            own[p.columns(argument)] = True
            everything |= own
            if argument in found.lipschitz_per_argument:
                e.claim(f"lipschitz[{argument}]", found.lipschitz_per_argument[argument])
                e.claim(f"smoothness[{argument}]", found.smoothness_per_argument[argument])
                self.views[f"[{argument}]"] = own & moving, own & moving
            else:
                e.contradict(f"no constants of argument {argument}")
        self.views[""] = everything & moving, everything & moving

        analysis = jaxsmooth.analyze(p.function, p.bounds, argnums=p.argnums)(*p.arguments)
        e.claim("bound of f", analysis.bound)
        e.claim("lipschitz of f", analysis.lipschitz)
        e.claim("excess over the range of f", 0.0)
        e.claim("excess over the range of f_eps", 0.0)
        ranges = analysis.range
        pairs = jax.tree.leaves(ranges, is_leaf=lambda r: isinstance(r, tuple) and len(r) == 2)
        shapes = [leaf.shape for leaf in jax.tree.leaves(jax.eval_shape(p.function, *p.arguments))]
        self.range_of_f = flat_range(pairs, shapes)
        self.range_of_g = flat_range(found.range, shapes) if found.range else None
        numbers = [np.asarray(x, np.float64).tobytes() for x in jax.tree.leaves((found, analysis))]
        e.digest = hashlib.sha256(b"".join(numbers)).hexdigest()[:16]

    def _distance(self, values: Values) -> np.ndarray:
        away = np.abs(values.g - values.f)
        if self.program.options["norm"] == "linf":
            return away.max(axis=1)
        return np.linalg.norm(away, axis=1)

    def look(self, points: np.ndarray) -> Values:
        """Evaluate and compare with every claim that speaks of single points."""
        values = self.evaluation(points)
        values = values[values.ok]
        e, at = self.evidence, values.points
        size = np.linalg.norm(values.f, axis=1)
        slope = norms(np.nan_to_num(values.f_jacobian, posinf=0, neginf=0))
        # Rounding of the arguments moves f by slope·u·‖θ‖, its own arithmetic by u·‖f‖.
        noise = 100 * self.roundoff * (1 + size + slope * (1 + np.linalg.norm(at, axis=1)))
        # Compiled without optimisation, derivatives of f itself are NaN at some points.
        sound = np.isfinite(values.f_jacobian).all(axis=(1, 2))
        for name, array in (
            ("f_eps", values.g),
            ("the Jacobian of f_eps", values.g_jacobian[sound]),
        ):
            if not np.isfinite(array).all():
                e.contradict(f"{name} is not finite")
        found = {
            "error": self._distance(values),
            "bound": np.linalg.norm(values.g, axis=1),
            "bound of f": size,
        }
        for name, limits, y in (
            ("f", self.range_of_f, values.f),
            ("f_eps", self.range_of_g, values.g),
        ):
            if limits is not None:
                lo, hi = limits
                outside = np.maximum(lo - y, y - hi).max(axis=1, initial=0.0)
                found[f"excess over the range of {name}"] = outside
        suspicious = np.zeros(len(at), bool)
        for name, array in found.items():
            suspicious |= e.exceeds(name, array - noise)
        for i in np.flatnonzero(suspicious):
            near, here = self._around(at[i]), values[i : i + 1]
            scatter = [near.f - here.f, near.g - here.g]
            noise[i] += 4 * _largest(np.linalg.norm(scatter, axis=-1))
        for name, array in found.items():
            e.observe(name, array, noise, at)
        for key, (_, read) in self.views.items():
            slopes = norms(values.g_jacobian[:, :, read])
            e.observe(f"lipschitz{key}", slopes, 1e3 * self.roundoff * (1 + slopes), at)
        slopes = self._slopes_of_f(values)
        for i in np.flatnonzero(e.exceeds("lipschitz of f", slopes * (1 - 1e3 * self.roundoff))):
            # At a kink JAX's derivative of f need not be between those beside it.
            slopes[i] = self._slopes_of_f(self._around(at[i], 64.0)).max()
        e.observe("lipschitz of f", slopes, 1e3 * self.roundoff * (1 + slopes), at)
        return values

    def _slopes_of_f(self, values: Values) -> np.ndarray:
        """Norms of f's derivatives, as JAX finds them; 0 where they are not finite."""
        everything = self.views[""][0]
        finite = np.isfinite(values.f_jacobian).all(axis=(1, 2))
        return np.where(finite, norms(np.nan_to_num(values.f_jacobian[:, :, everything])), 0.0)

    def _around(self, point: np.ndarray, units: float | None = None) -> Values:
        """Values within a few units in the last place of a point, or that many of 1 and of it.

        Where large numbers cancel, rounding is in neither f nor its slope: (1 + y) - y is off
        by up to the spacing of the floats at y. How far values scatter shows it.
        """
        if units is not None:
            shifts = self.rng.uniform(-units, units, (BATCH, len(point)))
            return self.evaluation(point + self.roundoff * shifts * (1 + abs(point)))
        shifts = self.rng.integers(-4, 5, (BATCH, len(point)))
        return self.evaluation(point * (1 + self.roundoff * shifts))

    def climb_error(self, points: np.ndarray, steps: int) -> None:
        """Projected gradient ascent on ‖f_eps − f‖."""
        region = self.program.region
        for i in range(steps):
            values = self.look(points)
            if len(values.points) == 0:
                return
            away = values.g - values.f
            if self.program.options["norm"] == "linf":
                top = np.abs(away).argmax(axis=1)
                away = np.where(np.arange(away.shape[1]) == top[:, None], away, 0.0)
            slopes = values.g_jacobian - np.nan_to_num(values.f_jacobian)
            gradient = np.nan_to_num(np.einsum("no,noi->ni", away, slopes))
            points = region.ascend(values.points, gradient, 0.4 * 0.6**i)

    def climb_bound(self, points: np.ndarray, steps: int) -> None:
        """Projected gradient ascent on ‖f_eps‖."""
        for i in range(steps):
            values = self.look(points)
            gradient = np.nan_to_num(np.einsum("no,noi->ni", values.g, values.g_jacobian))
            points = self.program.region.ascend(values.points, gradient, 0.5 * 0.6**i)

    def climb_lipschitz(self, points: np.ndarray, steps: int) -> None:
        """Projected gradient ascent on the spectral norm of the Jacobian."""
        everything = self.views[""][0]
        if not everything.any():
            return
        for i in range(steps):
            values = self.look(points)
            if len(values.points) == 0:
                return
            left, right = singular(np.nan_to_num(values.g_jacobian) * everything)
            gradient = self.evaluation.contract(values.points, left, right)
            points = self.program.region.ascend(
                values.points, np.nan_to_num(gradient), 0.3 * 0.6**i
            )

    def secants(self) -> np.ndarray:
        """Bisect secants of the Jacobian; returns the points that they end at."""
        region, rng = self.program.region, self.rng
        views = [key for key, (vary, _) in self.views.items() if vary.any()]
        if not views:
            return region.sample(rng, BATCH)
        keys = np.array([views[i] for i in rng.integers(0, len(views), BATCH)])
        keys[: BATCH // 2] = ""
        vary = np.stack([self.views[k][0] for k in keys])
        read = np.stack([self.views[k][1] for k in keys])
        a = region.sample(rng, BATCH)
        b = region.sample(rng, BATCH)
        close = np.repeat([1.0, 0.1, 0.01], BATCH // 3)[:, None]
        b = np.where(vary, a + close * (b - a), a)  # sets are convex
        ja, jb = (self.evaluation(x).g_jacobian * read[:, None, :] for x in (a, b))
        for _ in range(24):
            middle = (a + b) / 2
            jm = self.evaluation(middle).g_jacobian * read[:, None, :]
            left, right = (
                self._secant(keys, a, middle, ja, jm),
                self._secant(keys, middle, b, jm, jb),
            )
            go = (left >= right)[:, None]
            a, b = np.where(go, a, middle), np.where(go, middle, b)
            ja, jb = np.where(go[..., None], ja, jm), np.where(go[..., None], jm, jb)
            if np.linalg.norm(b - a, axis=1).max() < 1e4 * self.roundoff:
                break
        self._power(keys, vary, read, (a + b) / 2, jb - ja, b - a)
        return (a + b) / 2

    def _secant(self, keys, a, b, ja, jb) -> np.ndarray:
        distance = np.linalg.norm(b - a, axis=1)
        safe = np.maximum(distance, 1e-300)
        ratio = norms(jb - ja) / safe
        size = np.maximum(norms(ja), norms(jb))
        place = 1 + np.linalg.norm(a, axis=1)
        noise = 300 * self.roundoff * (size * place + ratio * place) / safe
        ratio = np.where((distance > 0) & np.isfinite(ratio), ratio, 0.0)
        noise = np.nan_to_num(noise, nan=np.inf)
        for i, key in enumerate(keys):
            if self.evidence.exceeds(f"smoothness{key}", ratio[i : i + 1] - noise[i : i + 1])[0]:
                ends = ((a[i], ja[i]), (b[i], jb[i]))
                scatter = (_largest(norms(self._around(x).g_jacobian - j)) for x, j in ends)
                noise[i] += 4 * sum(scatter) / safe[i]
        self._observe("smoothness", keys, ratio, noise, (a + b) / 2)
        return ratio

    def _observe(self, name, keys, ratio, noise, points) -> None:
        for key in set(keys):
            rows = keys == key
            self.evidence.observe(f"{name}{key}", ratio[rows], noise[rows], points[rows])

    def _power(self, keys, vary, read, points, turn, direction) -> None:
        """Power iteration on second derivatives, from where the secants ended."""
        turn = np.nan_to_num(turn)
        left, _ = singular(turn)
        right = unit(np.where(vary, direction, 0.0))
        for _ in range(4):
            out = np.where(read, self.evaluation.contract(points, left, right), 0.0)
            sound = np.isfinite(self.evaluation(points).f_jacobian).all(axis=(1, 2))
            out[~sound] = 0.0
            if not np.isfinite(out).all():
                self.evidence.contradict("a second derivative of f_eps is not finite")
                return
            size = np.linalg.norm(out, axis=1)
            self._observe("smoothness", keys, size, 1e4 * self.roundoff * (1 + size), points)
            right = np.where(size[:, None] > 0, unit(out), right)

    def run(self) -> Evidence:
        """The whole attack."""
        region, rng = self.program.region, self.rng
        for _ in range(self.effort):
            self.look(region.sample(rng, BATCH))
            windows = self.secants()
            fresh = region.sample(rng, BATCH)
            mixed = np.where(rng.random((BATCH, 1)) < 0.6, windows, fresh)
            self.climb_error(mixed, 10)
            self.climb_lipschitz(fresh, 4)
            self.climb_bound(fresh, 4)
        return self.evidence


def _largest(scatter: np.ndarray) -> float:
    """The largest of the finite ones: what is not finite excuses nothing."""
    return float(np.max(scatter, where=np.isfinite(scatter), initial=0.0))


def attack(program: Program, seed: int = 0, effort: int = 1) -> Evidence:
    """What contradicts the certificate of the program, and how tight it is.

    Raises:
        jaxsmooth.errors.JaxsmoothError: if the library refuses the program.
    """
    with jax.enable_x64(program.double):
        return Attack(program, seed, effort).run()
