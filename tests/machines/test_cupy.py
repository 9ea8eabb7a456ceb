"""What can be known of the CuPy backend without a GPU: CuPy has what is called, and the products reach cuBLAS right."""

import ctypes
import inspect
import sys
from contextlib import contextmanager
from types import ModuleType, SimpleNamespace

import numpy as np
import pytest

from backend import BackendError, open_backend
from backend.cupy_backend import recordable_matmul, recordable_stream, say_once, through_pinned_memory
from ref.densities import squared_error
from ref.mlp import ACTIVATIONS
from ref.more.linear import in_principal_coordinates, principal_components, start_linear
from ref.more.metrics import Draws, Images, evaluate
from ref.objectives import METHODS
from tests.machines.test_backends import reader, training
from tests.small import NETWORKS, NUMPY, SOME, model_of, theta_of
from tests.tested import NAME, host, open_tested

NEEDS_CUPY = pytest.mark.skipif(NAME != "cupy", reason="for pytest --backend cupy")
FUSABLE = ("where", "clip")  # no ufuncs, yet CuPy's fusion has them
SKIP = "CuPy is not installed; pip install cupy-cuda13x does it, without a GPU too"


class Recording:
    """NumPy's namespace with CuPy's `fused`; a call is noted as (name, args, kwargs, inside of a fused function)."""

    def __init__(self, calls: list, module=np, prefix: str = "", inside: bool = False):
        self.calls, self.module, self.prefix, self.inside = calls, module, prefix, inside

    def __getattr__(self, name: str):
        f = getattr(self.module, name)
        if name == "linalg":
            return Recording(self.calls, f, "linalg.")
        if isinstance(f, type) or not callable(f):
            return f

        def noted(*args, **kwargs):
            self.calls.append((self.prefix + name, args, kwargs, self.inside))
            return f(*args, **kwargs)

        return noted

    def fused(self, f):
        return lambda *args: f(Recording(self.calls, inside=True), *args)


def calls_of_everything() -> list:
    """What all methods and networks call in a step, in the evaluation and in the linear start."""
    calls = []
    backend = NUMPY._replace(xp=Recording(calls))
    for name, method in METHODS.items():
        for network in (NETWORKS[n] for n in ("tanh", "relu", *SOME)):
            training(backend, name, network)[0]()
            model, theta = model_of(**network), theta_of(model_of(**network))
            draws = Draws(3, 2, method.constraint.bounded if method.constraint else None)
            evaluate(backend, model, theta, Images(reader(backend), 40), backend.noise(0), draws)
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
            assert not inside_fused or name in FUSABLE, f"{name} is no ufunc, so CuPy cannot fuse it into one kernel"
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


@NEEDS_CUPY
@pytest.mark.parametrize("precision", ["float32", "float64"])
@pytest.mark.parametrize("shape", [(5,), (1, 7), (3, 4), (50, 1000), (1, 3, 4), (2, 3, 4)])
def test_what_runs_in_one_kernel_or_in_none_is_what_numpy_computes(shape, precision):
    backend, rng = open_tested(precision), np.random.default_rng(0)
    arrays = [rng.normal(size=shape).astype(precision) for _ in range(3)]
    on_device = [backend.asarray(a) for a in arrays]
    for axis in (None, *range(-len(shape), len(shape))):
        for name in ("sum", "mean"):
            found = backend.to_host(getattr(backend.xp, name)(on_device[0], axis=axis))
            np.testing.assert_allclose(found, getattr(np, name)(arrays[0], axis=axis), rtol=1e-4, atol=1e-4)
    others = [*arrays, rng.normal(size=(2, *shape[1:])).astype(precision)]
    for some in (arrays, arrays * 3, others):  # few of one shape, many, and different ones
        found = backend.xp.concatenate([backend.asarray(a) for a in some])
        np.testing.assert_array_equal(backend.to_host(found), np.concatenate(some))
    np.testing.assert_array_equal(
        backend.to_host(backend.xp.concatenate(on_device, axis=-1)), np.concatenate(arrays, axis=-1)
    )
    np.testing.assert_array_equal(backend.to_host(backend.xp.stack(on_device)), np.stack(arrays))


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


class Device:
    """The current stream, as CuPy keeps it: after a `with`, that of the `with` around it, or stream 0."""

    def __init__(self):
        self.entered, self.current, self.log = [], 0, []

    def stream(self):
        device = self

        class Stream:
            ptr, synchronize = 0, lambda self: None

            def use(self) -> None:
                device.current = self

            def __enter__(self) -> None:
                device.entered.append(self)
                device.current = self

            def __exit__(self, *error) -> None:
                device.entered.pop()
                device.current = device.entered[-1] if device.entered else 0

            def begin_capture(self) -> None:
                device.log.append("begin")

            def end_capture(self):
                device.log.append("end")
                return SimpleNamespace(launch=lambda stream: device.log.append("launch"))

        return Stream()


def cupy_of(device: Device, processors: int = 132) -> ModuleType:
    """A module with what `open_backend` and `recorded` use of CuPy, on that device with so many multiprocessors."""

    @contextmanager
    def using_allocator(malloc):
        device.log.append(malloc)
        yield

    def philox(seed, size=None):
        return SimpleNamespace(_state=np.zeros(64 * (size or 2048 * processors), np.int8))

    cp = ModuleType("cupy")
    cp.__version__, cp.dtype, cp.uint8, cp.asnumpy, cp.zeros = "14.2.0", np.dtype, np.uint8, np.asarray, np.zeros
    cp.empty = lambda shape, dtype: np.empty(shape, dtype).view(OnDevice)
    cp.fuse = lambda kernel_name: lambda f: SimpleNamespace(kernel=kernel_name, f=f)
    cp.ReductionKernel, cp.sum = lambda *definition: np.mean, np.sum
    cp.random = SimpleNamespace(Philox4x3210=philox, Generator=lambda bits: None)
    cp.cuda = SimpleNamespace(
        Stream=lambda non_blocking: device.stream(),
        MemoryPool=lambda: SimpleNamespace(malloc="its own pool"),
        using_allocator=using_allocator,
        get_current_stream=lambda: device.current,
        is_available=lambda: True,
        runtime=SimpleNamespace(getDeviceProperties=lambda number: {"name": b"a stand-in"}),
    )
    return cp


@pytest.fixture
def device(monkeypatch) -> Device:
    """A device on which `open_backend("cupy")` works, with cuBLAS; what CuPy cannot do without a GPU is missing."""
    device = Device()
    device.cupy, device.cublas = cupy_of(device), Cublas()
    bindings = {"cupy": device.cupy, "nvmath": ModuleType("nvmath"), "nvmath.bindings": SimpleNamespace()}
    bindings["nvmath.bindings"].cublas = device.cublas
    for name, module in bindings.items():
        monkeypatch.setitem(sys.modules, name, module)
    say_once.cache_clear()
    return device


def test_no_kernel_has_the_name_of_a_function_of_cuda(device):
    xp = open_backend("cupy").xp
    assert {xp.fused(f.__wrapped__).kernel for f in ACTIVATIONS.values()} == {"fused_silu", "fused_tanh", "fused_relu"}
    assert xp.fused_sum(squared_error.__wrapped__).kernel == "summed_squared_error"


def test_the_recordable_stream_stays_current_when_cupy_enters_and_leaves_it(device):
    open_backend("cupy")
    stream = device.current
    with stream:  # as asnumpy does for an array that is not contiguous
        pass
    assert device.current is stream != 0


@NEEDS_CUPY
def test_a_slice_copied_to_the_host_leaves_the_recordable_stream_current():
    import cupy as cp

    backend = open_tested("float32")
    backend.to_host(backend.asarray(np.ones((3, 4)))[:, :2])
    assert cp.cuda.get_current_stream() == recordable_stream(cp)


@NEEDS_CUPY
def test_a_host_function_sees_what_it_reads_of_a_device_array_and_changes_only_what_it_writes():
    def f(array) -> None:
        seen.append(array.copy())
        array[...] = 9

    seen, a = [], open_tested("float64").asarray(np.arange(6.0))
    through_pinned_memory(f, read=lambda size: slice(0, 2), written=lambda size: slice(2, size - 1))(a)
    assert seen[0][:2].tolist() == [0, 1] and host(a).tolist() == [0, 1, 9, 9, 9, 5]
    through_pinned_memory(f)(a)
    assert seen[1].tolist() == [0, 1, 9, 9, 9, 5] and (host(a) == 9).all()


def test_a_call_on_another_thread_is_on_the_recordable_stream(device):
    backend = open_backend("cupy")
    stream, device.entered, device.current = device.current, [], 0  # as a thread begins
    assert backend.anywhere(lambda: device.current)() is stream != 0
    assert device.current == 0


def test_a_step_on_another_stream_is_refused(device):
    backend = open_backend("cupy")
    run = backend.compile(lambda: device.log.append("step"))
    device.stream().use()
    with pytest.raises(RuntimeError, match="another CUDA stream"):
        run()
    assert device.log == []


def test_the_state_of_the_noise_has_the_same_size_on_every_card(device, monkeypatch):
    sizes = set()
    for processors in (16, 132):
        monkeypatch.setitem(sys.modules, "cupy", cupy_of(device, processors))
        sizes.add(open_backend("cupy").noise(0).nbytes)
    assert sizes == {2**20}


@NEEDS_CUPY
def test_the_state_of_the_noise_takes_one_mebibyte():
    assert open_tested("float32").noise(0).nbytes == 2**20


SEVERAL_LINES = "cannot find libnvrtc\n  searched in:\n\tsite-packages\n"


def test_a_cupy_without_its_cuda_libraries_is_one_sentence_that_says_what_to_install(device):
    def zeros(shape):
        raise RuntimeError(SEVERAL_LINES)

    device.cupy.zeros = zeros
    with pytest.raises(BackendError, match="cannot find libnvrtc searched in: site-packages") as raised:
        open_backend("cupy")
    assert "\n" not in str(raised.value) and "cupy-cuda13x[ctk]" in str(raised.value)


def test_why_steps_run_eagerly_is_said_on_one_line(device, capsys):
    def create():
        raise RuntimeError(SEVERAL_LINES)

    device.cublas.create = create
    backend = open_backend("cupy")
    said = capsys.readouterr().err
    assert "cannot find libnvrtc searched in: site-packages" in said and said.count("\n") == 1
    assert backend.versions["graph"] is False and backend.compile(open) is open
    with pytest.raises(BackendError, match="cannot find libnvrtc searched in: site-packages"):
        open_backend("cupy", tf32=True)


def test_a_process_has_one_handle_of_cublas_however_many_backends_it_opens(device):
    handles = []
    device.cublas.create = lambda: handles.append(1) or 1
    for precision in ("float32", "float64", "float32"):
        open_backend("cupy", precision)
    assert len(handles) == 1


def test_a_step_runs_eagerly_twice_is_recorded_once_and_replayed_from_then_on(device):
    run = open_backend("cupy").compile(lambda: device.log.append("step"))
    for _ in range(4):
        run()
    warm_up = ["its own pool", "step"]
    assert device.log == [*warm_up, *warm_up, "its own pool", "begin", "step", "end", "launch", "launch"]


def test_a_step_that_cannot_be_recorded_goes_on_eagerly_and_says_so_once(device, capsys):
    def step() -> None:
        if device.log[-1] == "begin":
            raise RuntimeError(SEVERAL_LINES)
        device.log.append("step")

    run = open_backend("cupy").compile(step)
    for _ in range(5):
        run()
    warm_up = ["its own pool", "step"]
    assert device.log == [*warm_up, *warm_up, "its own pool", "begin", "end", "step", *warm_up, *warm_up]
    said = capsys.readouterr().err
    assert said.count("\n") == 1 and "eagerly" in said and "cannot find libnvrtc searched in: site-packages" in said


def test_an_error_of_the_step_itself_comes_out_after_a_failed_recording(device):
    def step() -> None:
        if "begin" in device.log:
            raise ZeroDivisionError

    run = open_backend("cupy").compile(step)
    run()
    run()
    with pytest.raises(ZeroDivisionError):
        run()
    assert device.log[-2:] == ["begin", "end"]


def test_tf32_is_refused_where_there_is_no_gpu():
    with pytest.raises(Exception, match="--tf32 is for matrix products on a GPU"):
        open_backend("numpy", "float32", tf32=True)
