"""What can be known of the CuPy backend without a GPU: CuPy has what is called, and the products reach cuBLAS right."""

import ctypes
import gc
import inspect
import sys
from contextlib import contextmanager
from functools import partial
from types import ModuleType, SimpleNamespace

import numpy as np
import pytest

from backend import BackendError, cupy_backend, open_backend
from backend.cublas import TF32_MATH, Beside, Cublas
from backend.cupy_backend import recordable_stream, say_once, through_pinned_memory
from ref import vae
from ref.densities import squared_error
from ref.elementwise import averaged
from ref.mlp import ACTIVATIONS
from ref.more.linear import in_principal_coordinates, principal_components, start_linear
from ref.more.metrics import Draws, Images, evaluate
from ref.objectives import METHODS, Now
from ref.train import batch_means
from tests.machines.test_backends import reader, training
from tests.small import NETWORKS, NUMPY, SOME, model_of, plan_of, theta_of
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


class Library:
    """cuBLAS by its definition, on host memory: matrices by columns, with leading dimensions; every call succeeds."""

    math_mode = None

    def __getattr__(self, name: str):
        if not name.startswith("cublas"):
            raise AttributeError(name)
        return lambda *args: 0

    def cublasSetMathMode(self, handle, mode) -> int:
        self.math_mode = mode
        return 0

    def cublasSgemm_v2(self, handle, *args) -> int:
        return gemm(ctypes.c_float, *args)

    def cublasDgemm_v2(self, handle, *args) -> int:
        return gemm(ctypes.c_double, *args)

    def cublasSgemv_v2(self, handle, *args) -> int:
        return gemv(ctypes.c_float, *args)

    def cublasDgemv_v2(self, handle, *args) -> int:
        return gemv(ctypes.c_double, *args)


def by_columns(kind, pointer, rows: int, columns: int, leading: int) -> np.ndarray:
    """The matrix that lies there."""
    assert leading >= rows
    flat = np.ctypeslib.as_array(ctypes.cast(pointer, ctypes.POINTER(kind)), (leading * columns,))
    return flat.reshape(columns, leading).T[:rows]


def gemm(kind, op_a, op_b, m, n, k, alpha, a, lda, b, ldb, beta, c, ldc) -> int:
    """C ← α·op(A)·op(B) + β·C"""
    left = by_columns(kind, a, *((k, m) if op_a else (m, k)), lda)
    right = by_columns(kind, b, *((n, k) if op_b else (k, n)), ldb)
    alpha, beta = (ctypes.cast(p, ctypes.POINTER(kind))[0] for p in (alpha, beta))
    out = by_columns(kind, c, m, n, ldc)
    out[...] = alpha * (left.T if op_a else left) @ (right.T if op_b else right) + (beta * out if beta else 0)
    return 0


def gemv(kind, op, m, n, alpha, a, lda, x, incx, beta, y, incy) -> int:
    """y ← α·op(A)·x + β·y, as a product of matrices."""
    assert (op, incx, incy) == (0, 1, 1)
    return gemm(kind, 0, 0, m, 1, n, alpha, a, lda, x, n, beta, y, m)


def on_host() -> SimpleNamespace:
    """What `Cublas` needs of CuPy, with the host's memory."""
    return SimpleNamespace(
        empty=lambda shape, dtype: np.empty(shape, dtype).view(OnDevice),
        ones=lambda shape, dtype: np.ones(shape, dtype).view(OnDevice),
        uint8=np.uint8,
        sum=np.sum,
        ascontiguousarray=lambda a: np.ascontiguousarray(a).view(OnDevice),
    )


@pytest.fixture
def library(monkeypatch) -> Library:
    """The library that is found behind CuPy's module."""
    library = Library()
    monkeypatch.setattr("backend.cublas.blas_behind", lambda cp: library)
    return library


@pytest.mark.parametrize("precision", ["float32", "float64"])
def test_a_product_through_cublas_is_the_product_however_the_matrices_lie(precision, library):
    cublas = Cublas(on_host(), SimpleNamespace(ptr=0), tf32=True)
    matmul = cublas.matmul
    assert library.math_mode == TF32_MATH
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
    for shape in [(3, 4), (1, 4), (5, 1), (3, 4, 2)]:
        a = rng.normal(size=shape).astype(precision).view(OnDevice)
        np.testing.assert_allclose(cublas.sum_rows(a), np.sum(a, axis=0), rtol=1e-4, atol=1e-6)


def test_a_product_that_does_not_succeed_is_an_error(library):
    cublas = Cublas(on_host(), SimpleNamespace(ptr=0), tf32=False)
    library.cublasSgemm_v2 = lambda *args: 13
    with pytest.raises(RuntimeError, match="cublasSgemm_v2 ends with status 13"):
        cublas.matmul(*(np.ones((2, 2), np.float32).view(OnDevice) for _ in range(2)))


def test_gradients_run_beside_a_step_that_keeps_their_operands_and_its_update_waits_for_them(library):
    log, event, cp = [], SimpleNamespace(), on_host()

    def logged(stream: str, call, *args) -> None:
        log.append(stream)
        call(*args)

    cp.cuda = SimpleNamespace(Event=lambda disable_timing: event)
    event.record = lambda stream: setattr(event, "of", stream.name)
    first, second = (
        SimpleNamespace(
            ptr=0, name=name, wait_event=lambda event, name=name: log.append(f"{name} waits for {event.of}")
        )
        for name in ("first", "second")
    )
    of_first, of_second = (Cublas(cp, stream, tf32=False) for stream in (first, second))
    for cublas in (of_first, of_second):
        cublas.call = partial(logged, cublas.stream.name, cublas.call)
    a, b = (np.ones((3, 3), np.float32).view(OnDevice) for _ in range(2))
    out, gaps, beside = np.zeros((3, 3), np.float32).view(OnDevice), a[:, ::-1], Beside(cp, of_first, of_second)

    def step() -> None:
        beside.matmul(a, b)
        beside.matmul(gaps, b, out=out)
        assert beside.kept[0] is not gaps and beside.kept[1] is b  # the copy without gaps, which the product reads
        beside.sum_rows(a)
        beside.sum_rows(a, out=out[0])
        assert beside.kept[2] is a and len(beside.kept) == 4
        update()
        assert beside.kept == []
        update()  # another one finds nothing to wait for

    update = beside.before(lambda: log.append("update"))
    gradient = ["second waits for first", "second"]
    beside.within(step)()
    assert log == ["first", *gradient, "first", *gradient, "first waits for second", "update", "update"]
    log.clear()
    beside.matmul(a, b, out=out)  # outside of a step
    beside.within(lambda: beside.sum_rows(a, out=out[0]))()  # a step without an update
    assert log == ["first", *gradient, "first waits for second"] and (np.asarray(out)[0] == 3).all()


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

            def wait_event(self, event) -> None:
                device.log.append(f"waits: {event.of is not self}")

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


class Event:
    """An event, and the stream that has recorded it."""

    def __init__(self, disable_timing: bool):
        self.of = None

    def record(self, stream) -> None:
        self.of = stream


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
    cp.empty, cp.ones = on_host().empty, on_host().ones
    cp.fuse = lambda kernel_name: lambda f: SimpleNamespace(kernel=kernel_name, f=f)
    cp.mean, cp.sum, cp.full = np.mean, np.sum, np.full
    cp.random = SimpleNamespace(Philox4x3210=philox, Generator=lambda bits: None)
    cp.cuda = SimpleNamespace(
        Stream=lambda non_blocking: device.stream(),
        Event=Event,
        MemoryPool=lambda: SimpleNamespace(malloc="its own pool", free_all_blocks=lambda: device.log.append("freed")),
        using_allocator=using_allocator,
        get_current_stream=lambda: device.current,
        is_available=lambda: True,
        runtime=SimpleNamespace(getDeviceProperties=lambda number: {"name": b"a stand-in"}),
    )
    return cp


@pytest.fixture
def device(monkeypatch, library) -> Device:
    """A device on which `open_backend("cupy")` works, with cuBLAS; what CuPy cannot do without a GPU is missing."""
    device = Device()
    device.cupy = cupy_of(device)
    monkeypatch.setitem(sys.modules, "cupy", device.cupy)
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


def test_a_backend_has_the_gradients_of_its_steps_beside_and_lets_its_updates_wait(device, monkeypatch):
    monkeypatch.setattr(cupy_backend, "in_place", lambda cp, f: lambda: device.log.append("update"))
    backend, (a, out) = open_backend("cupy"), np.ones((2, 3, 3), np.float32).view(OnDevice)
    update = backend.fuse(None)

    def step() -> None:
        backend.xp.matmul(a, a, out=out)
        update()

    backend.compile(step)()
    assert device.log[:4] == ["its own pool", "waits: True", "waits: True", "update"]
    cublas = backend.xp.matmul.__self__
    assert cublas.side.ones is cublas.main.ones and cublas.side.stream is not cublas.main.stream


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


def test_without_cublas_steps_run_eagerly_and_one_line_says_so(device, monkeypatch, capsys):
    def blas_behind(cp):
        raise AttributeError(SEVERAL_LINES)

    monkeypatch.setattr("backend.cublas.blas_behind", blas_behind)
    backend = open_backend("cupy")
    said = capsys.readouterr().err
    assert "cannot find libnvrtc searched in: site-packages" in said and said.count("\n") == 1
    assert backend.versions["graph"] is False and backend.compile(open) is open
    with pytest.raises(BackendError, match=r"--tf32 cannot be had: .*searched in: site-packages"):
        open_backend("cupy", tf32=True)


@pytest.mark.parametrize("path", ["no such file", __file__, np.linalg._umath_linalg.__file__])
def test_a_module_that_is_not_linked_to_cublas_is_an_error_before_anything_is_computed(path):
    cp = on_host()
    cp.cuda = SimpleNamespace(cublas=SimpleNamespace(__file__=path))
    with pytest.raises((OSError, AttributeError)):
        Cublas(cp, SimpleNamespace(ptr=0), tf32=False)


def test_a_process_has_a_handle_of_cublas_for_each_stream_however_many_backends_it_opens(device, library):
    handles = []
    library.cublasCreate_v2 = lambda handle: handles.append(1) or 0
    for precision in ("float32", "float64", "float32"):
        open_backend("cupy", precision)
    assert len(handles) == 2  # a stream


def test_the_memory_of_a_recorded_step_that_nobody_has_any_more_is_freed(device):
    run = open_backend("cupy").compile(lambda: None)
    for _ in range(4):
        run()
    assert "freed" not in device.log
    del run
    gc.collect()
    assert device.log[-1] == "freed"


@NEEDS_CUPY
@pytest.mark.parametrize("warm_up", [0.0, 0.5])
@pytest.mark.parametrize("name", METHODS)
def test_the_means_of_a_step_in_one_kernel_are_those_of_cupy(name, warm_up):
    backend, method, plan = open_tested("float64"), METHODS[name], plan_of(name, 30, 8, 40, 3)
    if "warm_up" in plan.options:
        plan = plan._replace(options={"warm_up": warm_up})
    rng = np.random.default_rng(0)
    kl, *others = (backend.asarray(rng.normal(size=shape)) for shape in [(300,)] + [(3, 300)] * 4)
    terms = vae.Terms(kl, *others)
    now = Now(backend.asarray(np.array(1.3)), 0.4, backend.asarray(np.array(0.3)))
    plain = SimpleNamespace(**{key: f for key, f in vars(backend.xp).items() if key != "averaged"})
    f = partial(batch_means, method=method, plan=plan)
    found, expected = averaged(f)(backend.xp, terms, now), f(plain, terms, now)
    np.testing.assert_allclose(host(found), host(expected), rtol=1e-12)
    assert len(found) == 4 + bool(method.constraint)


@NEEDS_CUPY
def test_a_loss_that_does_more_with_a_mean_than_arithmetic_runs_as_written():
    def f(xp, a, b):
        return xp.stack([xp.exp(xp.mean(a)), xp.mean(b) * a[0] / 3, np.inf * xp.mean(b), -xp.mean(b) - np.nan])

    xp = open_tested("float64").xp
    a, b = xp.asarray(np.arange(3.0)), xp.asarray(np.arange(5.0))
    np.testing.assert_allclose(host(averaged(f)(xp, a, b)), [np.e, 0, np.inf, np.nan], rtol=1e-14)
    without_exp = averaged(lambda xp, a, b: f(SimpleNamespace(**vars(xp) | {"exp": lambda mean: 2 - mean}), a, b))
    np.testing.assert_array_equal(host(without_exp(xp, a, b)), [1, 0, np.inf, np.nan])


@NEEDS_CUPY
def test_a_vector_that_has_been_infinite_stays_marked_for_the_function_that_updates_it():
    def f(xp, a, b):
        a += b

    backend = open_tested("float32")
    update, a = backend.fuse(f), backend.asarray(np.ones(1000))
    assert float(update(a, a)) == 0
    a[7] = np.inf
    assert np.isnan(float(update(a, a)))
    a[...] = 1
    assert np.isnan(float(update(a, a))) and float(backend.fuse(f)(a, a)) == 0


@NEEDS_CUPY
def test_memory_comes_back_from_steps_that_were_recorded_and_dropped():
    import cupy as cp

    def used() -> int:
        gc.collect()
        cp.get_default_memory_pool().free_all_blocks()
        free, total = cp.cuda.runtime.memGetInfo()
        return total - free

    backend, history = open_tested("float32"), []
    for _ in range(6):
        step, _ = training(backend, "iwae", NETWORKS[SOME[0]])
        for _ in range(4):
            step()
        backend.synchronize()
        del step, _
        history.append(used())
    assert history[-1] - history[1] < 10_000  # four such steps that stay take 80,000 bytes


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
