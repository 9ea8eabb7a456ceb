"""What can be known of the CuPy backend without a GPU."""

import ctypes
import gc
import inspect
import sys
from contextlib import contextmanager
from functools import partial
from itertools import count, product
from types import ModuleType, SimpleNamespace
from unittest.mock import Mock

import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal

from backend import BackendError, cupy_backend, open_backend
from backend.cublas import DEFAULT_MATH, TF32_MATH, Beside, Cublas
from backend.cupy_backend import recordable_stream, say_once, through_pinned_memory
from backend.kernels import Means
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
SKIP = "CuPy is not installed; pip install cupy-cuda13x does it, without a GPU too"
ONE_LINE = "no libnvrtc searched in: site-packages"
SEVERAL_LINES = "no libnvrtc\n  searched in:\n\tsite-packages\n"
EAGER = ["its own pool", "step"]


class Recording:
    """NumPy's functions and `fused`; `calls` has (name, args, kwargs, fused) of each call."""

    def __init__(self, calls: list, prefix: str = "", inside: bool = False):
        self.calls, self.prefix, self.inside = calls, prefix, inside
        self.fused = lambda f: lambda *args: f(Recording(calls, inside=True), *args)

    def __getattr__(self, name: str):
        f = getattr(np.linalg if self.prefix else np, name)
        if name == "linalg":
            return Recording(self.calls, "linalg.")

        def noted(*args, **kwargs):
            self.calls.append((self.prefix + name, args, kwargs, self.inside))
            return f(*args, **kwargs)

        return f if isinstance(f, type) or not callable(f) else noted


def test_cupy_has_every_function_that_is_called_with_the_same_arguments():
    """In a step, in the evaluation and in the linear start."""
    cp, calls = pytest.importorskip("cupy", reason=SKIP), []
    backend = NUMPY._replace(xp=Recording(calls))
    for name, network in product(METHODS, ("tanh", "relu", *SOME)):
        training(backend, name, NETWORKS[network])[0]()
        model, constraint = model_of(**NETWORKS[network]), METHODS[name].constraint
        draws = Draws(3, 2, constraint.bounded if constraint else None)
        images = Images(reader(backend), 40)
        evaluate(backend, model, theta_of(model), images, backend.noise(0), draws)
    model = model_of(coordinates=5)
    components = principal_components(backend, reader(backend), 40, model.center, 5, backend.noise(0))
    model = in_principal_coordinates(backend.xp, model, *components[:2])
    start_linear(backend.xp, model, theta_of(model), components[1], 0.1)
    assert len({name for name, *_ in calls}) > 25
    for name, args, kwargs, fused in calls:
        f = cp
        for part in name.split("."):
            f = getattr(f, part)
        if isinstance(f, cp.ufunc):
            assert len(args) <= f.nin + f.nout, name
            assert set(kwargs) <= {"out", "dtype", "casting"}, (name, kwargs)
        else:
            assert not fused or name in ("where", "clip"), f"CuPy cannot fuse {name}"
            inspect.signature(f).bind(*args, **kwargs)
    for method in ("astype", "reshape", "copy", "T", "shape", "ndim", "size", "itemsize", "strides"):
        assert hasattr(cp.ndarray, method)


@NEEDS_CUPY
@pytest.mark.parametrize("precision", ["float32", "float64"])
@pytest.mark.parametrize("shape", [(5,), (1, 7), (3, 4), (50, 1000), (1, 3, 4), (2, 3, 4)])
def test_what_runs_in_one_kernel_or_in_none_is_what_numpy_computes(shape, precision):
    backend, rng = open_tested(precision), np.random.default_rng(0)
    xp, to_host = backend.xp, backend.to_host
    arrays = [rng.normal(size=shape).astype(precision) for _ in range(3)]
    others = [*arrays, rng.normal(size=(2, *shape[1:])).astype(precision)]
    on_device = [*map(backend.asarray, others)]
    for axis, name in product((None, *range(-len(shape), len(shape))), ("sum", "mean")):
        found = to_host(getattr(xp, name)(on_device[0], axis=axis))
        expected = getattr(np, name)(arrays[0], axis=axis)
        assert_allclose(found, expected, rtol=1e-4, atol=1e-4)
    found, of_device = to_host(xp.concatenate(on_device)), on_device[:3]
    assert_array_equal(found, np.concatenate(others))
    for times, axis in ((1, 0), (3, 0), (1, -1)):  # few arrays of a shape, and many
        found = to_host(xp.concatenate(of_device * times, axis=axis))
        assert_array_equal(found, np.concatenate(arrays * times, axis=axis))
    assert_array_equal(to_host(xp.stack(of_device)), np.stack(arrays))


class OnDevice(np.ndarray):
    """Host memory with CuPy's `data.ptr`."""

    data = property(lambda self: SimpleNamespace(ptr=self.ctypes.data))


def on_device(a, dtype):
    """A copy there."""
    return np.array(a, dtype).view(OnDevice)


class Library:
    """cuBLAS by its definition, on host memory; every call succeeds."""

    def __init__(self):
        self.asked = {}  # the arguments of the last call of a function
        for letter, kind in (("S", ctypes.c_float), ("D", ctypes.c_double)):
            setattr(self, f"cublas{letter}gemm_v2", partial(gemm, kind))
            setattr(self, f"cublas{letter}gemv_v2", partial(gemv, kind))

    def __getattr__(self, name: str):
        return lambda *args: self.asked.update({name: args}) or 0


def by_columns(kind, pointer, rows, columns, leading):
    """The matrix that lies there."""
    assert leading >= rows
    flat = np.ctypeslib.as_array(ctypes.cast(pointer, ctypes.POINTER(kind)), (leading * columns,))
    return flat.reshape(columns, leading).T[:rows]


def gemm(kind, handle, op_a, op_b, m, n, k, alpha, a, lda, b, ldb, beta, c, ldc):
    """C ← α·op(A)·op(B) + β·C"""
    left = by_columns(kind, a, *((k, m) if op_a else (m, k)), lda)
    right = by_columns(kind, b, *((n, k) if op_b else (k, n)), ldb)
    alpha, beta = (ctypes.cast(p, ctypes.POINTER(kind))[0] for p in (alpha, beta))
    out = by_columns(kind, c, m, n, ldc)
    left, right = left.T if op_a else left, right.T if op_b else right
    out[...] = alpha * left @ right + (beta * out if beta else 0)
    return 0


def gemv(kind, handle, op, m, n, alpha, a, lda, x, incx, beta, y, incy):
    """y ← α·op(A)·x + β·y, as a product of matrices."""
    assert (op, incx, incy) == (0, 1, 1)
    return gemm(kind, handle, 0, 0, m, 1, n, alpha, a, lda, x, n, beta, y, m)


class Stream:
    """A stream; after a `with`, that of the `with` around it is current, or stream 0."""

    ptr, synchronize = 0, None

    def __init__(self, device: "Device"):
        self.device, self.name = device, next(device.names)
        self.wait_event = lambda event: device.log.append(f"{self.name} waits for {event.of.name}")
        self.begin_capture = lambda: device.log.append("begin")

    def use(self):
        self.device.current = self

    def __enter__(self):
        self.device.entered.append(self)
        self.use()

    def __exit__(self, *error):
        self.device.entered.pop()
        self.device.current = self.device.entered[-1]

    def end_capture(self):
        self.device.log.append("end")
        return SimpleNamespace(launch=lambda stream: self.device.log.append("launch"))


class Device:
    """A device, what it has done, and what the backend uses of CuPy on it."""

    def __init__(self):
        self.entered, self.current, self.log, self.names = [0], 0, [], count(1)
        self.processors, self.cupy, event = 132, ModuleType("cupy"), SimpleNamespace()
        event.record = partial(setattr, event, "of")
        pool = SimpleNamespace(malloc="its own pool")
        pool.free_all_blocks = lambda: self.log.append("freed")
        vars(self.cupy).update(
            __version__="14.2.0",
            **{name: getattr(np, name) for name in ("dtype", "uint8", "zeros", "mean", "sum", "full")},
            asnumpy=np.asarray,
            empty=lambda shape, dtype: np.empty(shape, dtype).view(OnDevice),
            ones=lambda shape, dtype: np.ones(shape, dtype).view(OnDevice),
            ascontiguousarray=lambda a: np.ascontiguousarray(a).view(OnDevice),
            fuse=lambda kernel_name: lambda f: SimpleNamespace(kernel=kernel_name, f=f),
            random=SimpleNamespace(Philox4x3210=self.philox, Generator=lambda bits: None),
            cuda=SimpleNamespace(
                Stream=lambda non_blocking: Stream(self),
                Event=lambda disable_timing: event,
                MemoryPool=lambda: pool,
                using_allocator=self.using_allocator,
                get_current_stream=lambda: self.current,
                is_available=lambda: True,
                runtime=SimpleNamespace(getDeviceProperties=lambda number: {"name": b"a stand-in"}),
            ),
        )

    def philox(self, seed, size=None):
        return SimpleNamespace(_state=np.zeros(64 * (size or 2048 * self.processors), np.int8))

    @contextmanager
    def using_allocator(self, malloc):
        self.log.append(malloc)
        yield


@pytest.fixture
def library(monkeypatch):
    """What is found behind CuPy's module."""
    library = Library()
    monkeypatch.setattr("backend.cublas.blas_behind", lambda cp: library)
    return library


@pytest.fixture
def device(monkeypatch, library):
    """A device on which `open_backend("cupy")` works, with cuBLAS."""
    device = Device()
    monkeypatch.setitem(sys.modules, "cupy", device.cupy)
    say_once.cache_clear()
    return device


@pytest.mark.parametrize("precision", ["float32", "float64"])
def test_a_product_through_cublas_is_the_product_however_the_matrices_lie(precision, device, library):
    tf32, rng = precision == "float32", np.random.default_rng(0)
    cublas = Cublas(device.cupy, Stream(device), tf32)
    assert library.asked["cublasSetMathMode"][1] == (TF32_MATH if tf32 else DEFAULT_MATH)

    def matrix(*shape):
        return on_device(rng.normal(size=shape), precision)

    def laid_out(rows, columns):
        wide, tall = matrix(rows, columns + 3), matrix(columns, rows)
        repeated = np.broadcast_to(matrix(1, columns), (rows, columns), subok=True)
        backwards = wide[:, ::-1][:, :columns]
        return [wide[:, :columns].copy(), wide[:, 2 : columns + 2], tall.T, backwards, repeated]

    for m, k, n in [(3, 4, 5), (1, 4, 5), (3, 1, 5), (3, 4, 1), (1, 1, 1)]:
        for a, b in product(laid_out(m, k), laid_out(k, n)):
            out = on_device(np.full((m, n), np.nan), precision)
            expected = np.asarray(a) @ np.asarray(b)
            assert_allclose(cublas.matmul(a, b), expected, rtol=1e-4, atol=1e-5)
            assert cublas.matmul(a, b, out=out) is out
            assert_allclose(out, expected, rtol=1e-4, atol=1e-5)
    assert cublas.matmul(a[0], a[0]) == pytest.approx(float(np.sum(np.asarray(a[0]) ** 2)))
    for a in (matrix(3, 4), matrix(1, 4), matrix(5, 1), matrix(3, 4, 2)):
        assert_allclose(cublas.sum_rows(a), np.sum(a, axis=0), rtol=1e-4, atol=1e-6)


def test_a_product_that_does_not_succeed_is_an_error(device, library):
    cublas, a = Cublas(device.cupy, Stream(device), tf32=False), on_device(np.eye(2), np.float32)
    library.cublasSgemm_v2 = Mock(return_value=13)
    with pytest.raises(RuntimeError, match="cublasSgemm_v2 ends with status 13"):
        cublas.matmul(a, a)


def test_gradients_run_beside_a_step_that_keeps_their_operands_and_its_update_waits_for_them(device):
    log = device.log

    def logging(stream):
        cublas = Cublas(device.cupy, stream, tf32=False)
        call = cublas.call
        cublas.call = lambda *args: log.append(stream.name) or call(*args)
        return cublas

    def step():
        beside.matmul(a, b)
        beside.matmul(gaps, b, out=out)
        assert beside.kept[0] is not gaps and beside.kept[1] is b  # but a copy without gaps
        beside.sum_rows(a)
        beside.sum_rows(a, out=out[0])
        assert beside.kept[2] is a and len(beside.kept) == 4
        update()
        assert beside.kept == []
        update()  # another one finds nothing to wait for

    beside = Beside(device.cupy, logging(Stream(device)), logging(Stream(device)))
    update, gradient = beside.before(lambda: log.append("update")), ["2 waits for 1", 2]
    a, b, out = (on_device(np.ones((3, 3)), np.float32) for _ in range(3))
    gaps = a[:, ::-1]
    beside.within(step)()
    assert log == [1, *gradient, 1, *gradient, "1 waits for 2", "update", "update"]
    log.clear()
    beside.matmul(a, b, out=out)  # outside of a step
    beside.within(lambda: beside.sum_rows(a, out=out[0]))()  # a step without an update
    assert log == [1, *gradient, "1 waits for 2"] and (np.asarray(out)[0] == 3).all()


def test_no_kernel_has_the_name_of_a_function_of_cuda(device):
    xp = open_backend("cupy").xp
    kernels = {xp.fused(f.__wrapped__).kernel for f in ACTIVATIONS.values()}
    assert kernels == {"fused_silu", "fused_tanh", "fused_relu"}
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
    def f(array):
        seen.append(array.copy())
        array[...] = 9

    seen, a = [], open_tested("float64").asarray(np.arange(6.0))
    read, written = lambda size: slice(0, 2), lambda size: slice(2, size - 1)
    through_pinned_memory(f, read, written)(a)
    assert seen[0][:2].tolist() == [0, 1] and host(a).tolist() == [0, 1, 9, 9, 9, 5]
    through_pinned_memory(f)(a)
    assert seen[1].tolist() == [0, 1, 9, 9, 9, 5] and (host(a) == 9).all()


def test_a_backend_has_the_gradients_of_its_steps_beside_and_lets_its_updates_wait(device, monkeypatch):
    monkeypatch.setattr(cupy_backend, "in_place", lambda cp, f: lambda: device.log.append("update"))
    backend, (a, out) = open_backend("cupy"), on_device(np.ones((2, 3, 3)), np.float32)
    update, cublas = backend.fuse(None), backend.xp.matmul.__self__
    backend.compile(lambda: (backend.xp.matmul(a, a, out=out), update()))()
    assert device.log[:4] == ["its own pool", "2 waits for 1", "1 waits for 2", "update"]
    assert cublas.side.ones is cublas.main.ones and cublas.side.stream is not cublas.main.stream


def test_a_step_on_another_stream_is_refused(device):
    run = open_backend("cupy").compile(lambda: device.log.append("step"))
    Stream(device).use()
    with pytest.raises(RuntimeError, match="another CUDA stream"):
        run()
    assert device.log == []


def test_the_state_of_the_noise_has_the_same_size_on_every_card(device):
    for device.processors in (16, 132):
        assert open_backend("cupy").noise(0).nbytes == 2**20


@NEEDS_CUPY
def test_the_state_of_the_noise_takes_one_mebibyte():
    assert open_tested("float32").noise(0).nbytes == 2**20


def test_a_cupy_without_its_cuda_libraries_is_one_sentence_that_says_what_to_install(device):
    device.cupy.zeros = Mock(side_effect=RuntimeError(SEVERAL_LINES))
    with pytest.raises(BackendError, match=ONE_LINE) as raised:
        open_backend("cupy")
    assert "\n" not in str(raised.value) and "cupy-cuda13x[ctk]" in str(raised.value)


def test_without_cublas_steps_run_eagerly_and_one_line_says_so(device, monkeypatch, capsys):
    blas_behind = Mock(side_effect=AttributeError(SEVERAL_LINES))
    monkeypatch.setattr("backend.cublas.blas_behind", blas_behind)
    backend = open_backend("cupy")
    said = capsys.readouterr().err
    assert said.count("\n") == 1 and ONE_LINE in said
    assert backend.versions["graph"] is False and backend.compile(open) is open
    with pytest.raises(BackendError, match=f"TF32 cannot be had: .*{ONE_LINE}"):
        open_backend("cupy", tf32=True)


@pytest.mark.parametrize("path", ["no such file", __file__, np.linalg._umath_linalg.__file__])
def test_a_module_that_is_not_linked_to_cublas_is_an_error_before_anything_is_computed(path):
    device = Device()
    device.cupy.cuda.cublas = SimpleNamespace(__file__=path)
    with pytest.raises((OSError, AttributeError)):
        Cublas(device.cupy, Stream(device), tf32=False)


def test_a_process_has_a_handle_of_cublas_for_each_stream_however_many_backends_it_opens(device, library):
    library.cublasCreate_v2 = Mock(return_value=0)
    for precision in ("float32", "float64", "float32"):
        open_backend("cupy", precision)
    assert library.cublasCreate_v2.call_count == 2  # a stream


def calls(run, count=4):
    for _ in range(count):
        run()


@NEEDS_CUPY
@pytest.mark.parametrize("warm_up", [0.0, 0.5])
@pytest.mark.parametrize("name", METHODS)
def test_the_means_of_a_step_in_one_kernel_are_those_of_cupy(name, warm_up, monkeypatch):
    backend, method, plan = open_tested("float64"), METHODS[name], plan_of(name, 30, 8, 40, 3)
    if "warm_up" in plan.options:
        plan = plan._replace(options={"warm_up": warm_up})
    rng = np.random.default_rng(0)
    shapes = [(300,)] + [(3, 300)] * 4
    terms = vae.Terms(*(backend.asarray(rng.normal(size=shape)) for shape in shapes))
    now = Now(backend.asarray(np.array(1.3)), 0.4, backend.asarray(np.array(0.3)))
    plain = SimpleNamespace(**{key: f for key, f in vars(backend.xp).items() if key != "averaged"})
    f = partial(batch_means, method=method, plan=plan)
    stack, kernels = Means.stack, []
    monkeypatch.setattr(Means, "stack", lambda *what: kernels.append(stack(*what)) or kernels[-1])
    found, expected = averaged(f)(backend.xp, terms, now), f(plain, terms, now)
    assert len(kernels) == 1
    assert_allclose(host(found), host(expected), rtol=1e-12)
    assert len(found) == 4 + bool(method.constraint)


@NEEDS_CUPY
def test_a_loss_that_does_more_with_a_mean_than_arithmetic_runs_as_written():
    def f(xp, a, b):
        means = [xp.exp(xp.mean(a)), xp.mean(b) * a[0] / 3]
        return xp.stack([*means, np.inf * xp.mean(b), -xp.mean(b) - np.nan])

    xp = open_tested("float64").xp
    a, b = xp.asarray(np.arange(3.0)), xp.asarray(np.arange(5.0))
    assert_allclose(host(averaged(f)(xp, a, b)), [np.e, 0, np.inf, np.nan], rtol=1e-14)
    linear = lambda xp: SimpleNamespace(**vars(xp) | {"exp": lambda mean: 2 - mean})  # noqa: E731
    without_exp = averaged(lambda xp, a, b: f(linear(xp), a, b))
    assert_array_equal(host(without_exp(xp, a, b)), [1, 0, np.inf, np.nan])


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

    def used():
        gc.collect()
        cp.get_default_memory_pool().free_all_blocks()
        free, total = cp.cuda.runtime.memGetInfo()
        return total - free

    backend, history = open_tested("float32"), []
    for _ in range(6):
        step, _ = training(backend, "iwae", NETWORKS[SOME[0]])
        calls(step)
        backend.synchronize()
        del step, _
        history.append(used())
    assert history[-1] - history[1] < 10_000  # four such steps take 80,000 bytes


def test_a_step_runs_eagerly_twice_is_recorded_once_and_replayed_until_it_goes_and_frees_its_memory(device):
    run = open_backend("cupy").compile(lambda: device.log.append("step"))
    calls(run)
    assert device.log == [*EAGER, *EAGER, "its own pool", "begin", "step", "end", "launch", "launch"]
    del run
    gc.collect()
    assert device.log[-1] == "freed"


def test_a_step_that_cannot_be_recorded_goes_on_eagerly_and_says_so_once(device, capsys):
    def step():
        if device.log[-1] == "begin":
            raise RuntimeError(SEVERAL_LINES)
        device.log.append("step")

    run = open_backend("cupy").compile(step)
    calls(run, 5)
    assert device.log == [*EAGER, *EAGER, "its own pool", "begin", "end", "step", *EAGER, *EAGER]
    said = capsys.readouterr().err
    assert said.count("\n") == 1 and "eagerly" in said and ONE_LINE in said


def test_an_error_of_the_step_itself_comes_out_after_a_failed_recording(device):
    run = open_backend("cupy").compile(lambda: 1 / ("begin" not in device.log))
    calls(run, 2)
    with pytest.raises(ZeroDivisionError):
        run()
    assert device.log[-2:] == ["begin", "end"]


def test_tf32_is_refused_where_there_is_no_gpu():
    with pytest.raises(Exception, match="TF32 is for matrix products on a GPU"):
        open_backend("numpy", "float32", tf32=True)
