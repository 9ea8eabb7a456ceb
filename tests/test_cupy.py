"""What can be known of the CuPy backend without a GPU: CuPy has what is called, and the products reach cuBLAS right."""

import ctypes
import inspect
from contextlib import contextmanager
from types import SimpleNamespace

import numpy as np
import pytest

from backend import open_backend
from backend.cupy_backend import recordable_matmul, recorded
from ref.linear import in_principal_coordinates, principal_components, start_linear
from ref.metrics import evaluate
from ref.objectives import METHODS
from tests.small import NETWORKS, NUMPY, model_of, theta_of
from tests.test_backends import reader, training

SKIP = "CuPy is not installed; pip install cupy-cuda13x does it, without a GPU too"


def recording(calls: list, fused: bool):
    """NumPy's namespace, with `fused` as CuPy's has it; each call is noted as (name, args, kwargs, inside of fused)."""

    def noted(name, f, inside):
        def call(*args, **kwargs):
            calls.append((name, args, kwargs, inside))
            return f(*args, **kwargs)

        return call

    def names(inside):
        return {
            name: noted(name, f, inside)
            for name, f in vars(np).items()
            if callable(f) and not isinstance(f, type) and not name.startswith("_")
        } | {name: f for name, f in vars(np).items() if isinstance(f, type)}

    linalg = SimpleNamespace(
        **{name: noted(f"linalg.{name}", getattr(np.linalg, name), False) for name in ("qr", "eigh")}
    )
    inner = SimpleNamespace(**names(True))
    own = {"fused": lambda f: lambda *args: f(inner, *args)} if fused else {}
    return SimpleNamespace(**(names(False) | {"linalg": linalg} | own))


def calls_of_everything() -> list:
    """What all methods and networks call in a step, in the evaluation and in the linear start."""
    calls = []
    backend = NUMPY._replace(xp=recording(calls, fused=True))
    for name, method in METHODS.items():
        for network in (NETWORKS[n] for n in ("two layers", "tanh", "relu", "bernoulli", "principal coordinates")):
            training(backend, name, network)[0]()
            model, theta = model_of(**network), theta_of(model_of(**network))
            evaluate(backend, model, theta, reader(backend), 40, backend.noise(0), 3, 2, method.constrained)
    model = model_of(coordinates=5)
    components = principal_components(backend, reader(backend), 40, model.center, 5, backend.noise(0))
    model = in_principal_coordinates(backend.xp, model, *components[:2])
    start_linear(backend.xp, model, theta_of(model), components[1], 0.1)
    return calls


def test_cupy_has_every_function_that_is_called_with_the_same_arguments():
    cp = pytest.importorskip("cupy", reason=SKIP)
    calls = calls_of_everything()
    assert len({name for name, *_ in calls}) > 25
    for name, args, kwargs, inside_fused in calls:
        f = cp
        for part in name.split("."):
            f = getattr(f, part)
        if isinstance(f, cp.ufunc):
            assert len(args) <= f.nin + f.nout and set(kwargs) <= {"out", "dtype", "casting"}, (name, kwargs)
        else:
            assert not inside_fused, f"{name} is no ufunc, so CuPy cannot fuse it into one kernel"
            inspect.signature(f).bind(*args, **kwargs)
    for method in ("astype", "reshape", "copy", "T", "shape", "ndim", "size", "itemsize", "strides"):
        assert hasattr(cp.ndarray, method)


def test_nvidias_bindings_have_the_functions_that_a_recorded_product_calls():
    cublas = pytest.importorskip("nvmath.bindings.cublas", reason="nvmath-python is not installed")
    for name in ("create", "set_stream", "set_workspace", "set_math_mode", "sgemm", "dgemm"):
        assert callable(getattr(cublas, name))
    assert (cublas.Operation.N, cublas.Operation.T) == (0, 1)
    assert cublas.Math.TF32_TENSOR_OP_MATH != cublas.Math.DEFAULT_MATH
    arguments = ["handle", "transa", "transb", "m", "n", "k", "alpha", "a", "lda", "b", "ldb", "beta", "c", "ldc"]
    signature = cublas.sgemm.__doc__.splitlines()[0]
    assert [part.split()[-1].strip("()") for part in signature.split("(", 1)[1].split(",")] == arguments


class OnDevice(np.ndarray):
    """Host memory with CuPy's `data.ptr`."""

    @property
    def data(self):
        return SimpleNamespace(ptr=self.ctypes.data)


class Cublas:
    """gemm by cuBLAS's definition, on host memory: C = op(A)·op(B), matrices by columns, with leading dimensions."""

    Operation, Math = SimpleNamespace(N=0, T=1), SimpleNamespace(DEFAULT_MATH=0, TF32_TENSOR_OP_MATH=3)
    math_mode = None

    def create(self) -> int:
        return 1

    def set_stream(self, handle, stream) -> None: ...

    def set_workspace(self, handle, pointer, size) -> None: ...

    def set_math_mode(self, handle, mode) -> None:
        self.math_mode = mode

    def sgemm(self, *args) -> None:
        self.gemm(ctypes.c_float, *args)

    def dgemm(self, *args) -> None:
        self.gemm(ctypes.c_double, *args)

    def gemm(self, kind, handle, op_a, op_b, m, n, k, alpha, a, lda, b, ldb, beta, c, ldc) -> None:
        def matrix(pointer, rows, columns, leading):
            assert leading >= rows
            flat = np.ctypeslib.as_array(ctypes.cast(pointer, ctypes.POINTER(kind)), (leading * columns,))
            return flat.reshape(columns, leading).T[:rows]

        left = matrix(a, *((k, m) if op_a else (m, k)), lda)
        right = matrix(b, *((n, k) if op_b else (k, n)), ldb)
        alpha, beta = (ctypes.cast(p, ctypes.POINTER(kind))[0] for p in (alpha, beta))
        out = matrix(c, m, n, ldc)
        out[...] = alpha * (left.T if op_a else left) @ (right.T if op_b else right) + (beta * out if beta else 0)


@pytest.mark.parametrize("precision", ["float32", "float64"])
def test_a_product_through_cublas_is_the_product_however_the_matrices_lie(precision):
    cp = SimpleNamespace(
        empty=lambda shape, dtype: np.empty(shape, dtype).view(OnDevice),
        uint8=np.uint8,
        sum=np.sum,
        ascontiguousarray=lambda a: np.ascontiguousarray(a).view(OnDevice),
    )
    cublas = Cublas()
    matmul = recordable_matmul(cp, cublas, SimpleNamespace(ptr=0), tf32=True)
    assert cublas.math_mode == cublas.Math.TF32_TENSOR_OP_MATH
    rng = np.random.default_rng(0)

    def laid_out(rows: int, columns: int) -> list:
        wide = rng.normal(size=(rows, columns + 3)).astype(precision).view(OnDevice)
        tall = rng.normal(size=(columns, rows)).astype(precision).view(OnDevice)
        row = rng.normal(size=(1, columns)).astype(precision).view(OnDevice)
        repeated = np.broadcast_to(row, (rows, columns), subok=True)
        return [wide[:, :columns].copy(), wide[:, 2 : columns + 2], tall.T, wide[:, ::-1][:, :columns], repeated]

    for m, k, n in [(3, 4, 5), (1, 4, 5), (3, 1, 5), (3, 4, 1), (1, 1, 1)]:
        for a in laid_out(m, k):
            for b in laid_out(k, n):
                out = np.full((m, n), np.nan, precision).view(OnDevice)
                np.testing.assert_allclose(matmul(a, b), np.asarray(a) @ np.asarray(b), rtol=1e-4, atol=1e-5)
                assert matmul(a, b, out=out) is out and np.isfinite(out).all()
    assert matmul(a[0], a[0]) == pytest.approx(float(np.sum(np.asarray(a[0]) ** 2)))


def test_a_step_runs_eagerly_twice_is_recorded_once_and_replayed_from_then_on():
    log, pool = [], SimpleNamespace(malloc="its own pool")
    graph = SimpleNamespace(launch=lambda stream: log.append("launch"))

    @contextmanager
    def using_allocator(malloc):
        log.append(malloc)
        yield

    cp = SimpleNamespace(cuda=SimpleNamespace(MemoryPool=lambda: pool, using_allocator=using_allocator))
    stream = SimpleNamespace(begin_capture=lambda: log.append("begin"), end_capture=lambda: log.append("end") or graph)
    run = recorded(cp, stream, lambda: log.append("step"))
    for _ in range(4):
        run()
    warm_up = ["its own pool", "step"]
    assert log == [*warm_up, *warm_up, "its own pool", "begin", "step", "end", "launch", "launch"]

    def refused() -> None:
        if log[-1] == "begin":
            raise RuntimeError("not while recording")

    run = recorded(cp, stream, refused)
    run()
    run()
    for _ in range(2):  # the recording is closed and not used
        with pytest.raises(RuntimeError, match="not while recording"):
            run()
        assert log[-1] == "end"


def test_tf32_is_refused_where_there_is_no_gpu():
    with pytest.raises(Exception, match="--tf32 is not used by --backend numpy"):
        open_backend("numpy", "float32", tf32=True)
