"""Runs a model's method for inference, compiled, whatever the backend.

This is the one module under `models/` that knows which backend runs. A method called
on concrete arrays is compiled once for each shape; the weights are arguments of the
compiled function, never constants inside it, so training, loading, LoRA and
quantisation take effect at once and no weight is stored twice. A method called while
something else is being traced is left alone: the outer function compiles it.

What comes back has no gradient and holds on to nothing but its own values, unless
the caller asks for gradients; `np.asarray` reads it on every backend. Inside a trace
and inside another layer's call a method is part of that, gradients included: PyTorch
trains without tracing, and a head that calls `encoder.features` must train there as
it does on JAX and TensorFlow.

PyTorch runs eagerly on CPU, where compiling costs about a minute and gains about a
tenth, and through `torch.compile` on a GPU.
"""

import contextlib
import functools
import weakref
from collections.abc import Callable, Hashable, Iterator
from typing import Any

import keras
import numpy as np

from keras_pe.arrays import torch_array, torch_traces
from keras_pe.models.features import Features

Method = Callable[..., Any]
_called_once: list[bool] = []  # how many blocks of `called_once` are open
# Compiled functions live as long as their model; the weights they were made for are
# remembered by identity, because LoRA and quantisation replace variables.
_compiled: "weakref.WeakKeyDictionary[keras.Model, dict[Hashable, Any]]" = (
    weakref.WeakKeyDictionary()
)


def run_compiled(
    model: keras.Model,
    key: Hashable,
    method: Method,
    *arrays: Any,
    gradient: bool = False,
) -> Any:
    """Calls `method(*arrays)`, compiled where that is possible.

    Args:
        model: owner of the weights that `method` reads.
        key: names the method and all its static arguments.
        method: takes arrays, returns a nest of arrays, reads the model's weights and
            changes no state.
        arrays: the arguments, arrays of known shape.
        gradient: whether gradients flow from what is returned to weights and arrays.

    Returns:
        What `method` returns.
    """
    backend = keras.backend.backend()
    if any(isinstance(array, keras.KerasTensor) for array in arrays):
        return method(*arrays)
    if backend == "jax":
        return _run_jax(model, key, method, arrays)
    if backend == "tensorflow":
        return _run_tensorflow(model, key, method, arrays, gradient)
    if backend == "torch":
        return _run_torch(model, key, method, arrays, gradient)
    return method(*arrays)


def _cached(
    model: keras.Model, key: Hashable, compile_method: Callable[[list[Any]], Any]
) -> tuple[Any, list[Any]]:
    variables = model.variables
    identity = tuple(map(id, variables))
    functions = _compiled.setdefault(model, {})
    entry = functions.get(key)
    if entry is None or entry[0] != identity:
        entry = functions[key] = (identity, compile_method(variables))
    return entry[1], variables


def _run_jax(
    model: keras.Model, key: Hashable, method: Method, arrays: tuple[Any, ...]
) -> Any:
    import jax

    _features_for_jax()
    if any(isinstance(array, jax.core.Tracer) for array in arrays):
        return method(*arrays)

    def compile_method(variables: list[Any]) -> Any:
        owner = weakref.ref(model)
        unbound = _unbound(method)

        @jax.jit
        def stateless(values: list[Any], *inputs: Any) -> Any:
            mapping = list(zip(variables, values, strict=True))
            with keras.StatelessScope(state_mapping=mapping):
                return unbound(owner(), *inputs)

        return stateless

    function, variables = _cached(model, key, compile_method)
    return function([variable.value for variable in variables], *arrays)


@functools.cache
def _features_for_jax() -> None:
    """Tells JAX what of `Features` is an array: `jax.jit` takes and returns them."""
    import jax

    named = ["layer", "normed", "grid", "class_token"]
    jax.tree_util.register_dataclass(Features, ["values"], named)


def _run_tensorflow(
    model: keras.Model,
    key: Hashable,
    method: Method,
    arrays: tuple[Any, ...],
    gradient: bool,
) -> Any:
    import tensorflow as tf

    if tf.inside_function():
        return method(*arrays)

    def compile_method(variables: list[Any]) -> Any:
        owner = weakref.ref(model)
        unbound = _unbound(method)

        def graph(*inputs: Any) -> Any:
            return unbound(owner(), *inputs)

        # tf.Variables are captured by reference, so they are inputs of the graph. A
        # partial, because TensorFlow counts traces by a function's code, which all
        # models share: the fifth one that is used would be warned of as "retracing".
        return tf.function(functools.partial(graph), reduce_retracing=False)

    function = method if _called_once else _cached(model, key, compile_method)[0]
    outputs = function(*arrays)
    if gradient or _inside_a_layer():
        return outputs
    return keras.tree.map_structure(
        tf.stop_gradient, outputs
    )  # a tape may be recording


def _run_torch(
    model: keras.Model,
    key: Hashable,
    method: Method,
    arrays: tuple[Any, ...],
    gradient: bool,
) -> Any:
    import torch

    if torch_traces():
        return method(*arrays)
    function = _torch_function(model, key, method, arrays)
    if gradient or _inside_a_layer():
        return function(*arrays)
    # Not inference_mode: a head that trains on the result could not keep it.
    with torch.no_grad():
        return keras.tree.map_structure(_torch_result, function(*arrays))


def _torch_function(
    model: keras.Model, key: Hashable, method: Method, arrays: tuple[Any, ...]
) -> Any:
    import torch

    tensors = [array for array in arrays if isinstance(array, torch.Tensor)]
    if not any(tensor.is_cuda for tensor in tensors):
        return method

    def compile_method(variables: list[Any]) -> Any:
        owner = weakref.ref(model)
        unbound = _unbound(method)

        @torch.compile(dynamic=False)
        def graph(*inputs: Any) -> Any:
            return unbound(owner(), *inputs)

        return graph

    function, _ = _cached(model, key, compile_method)
    return function


def _inside_a_layer() -> bool:
    """Returns whether this is a part of another layer's or model's call."""
    from keras.src.backend.common import global_state

    return global_state.get_global_attribute("current_call_ctx") is not None


def _torch_result(tensor: Any) -> Any:
    """Returns a tensor that owns its memory and that `np.asarray` reads."""
    import torch

    if tensor.untyped_storage().nbytes() > tensor.nbytes:
        tensor = tensor.clone()  # a slice would keep all that it was cut from
    if tensor.device.type == "cpu" and tensor.dtype is not torch.bfloat16:
        return tensor
    return tensor.as_subclass(_readable_tensor())


@functools.cache
def _readable_tensor() -> Any:
    """Returns the class of tensors that NumPy reads from any device, in bfloat16 too.

    Any operation on one gives an ordinary tensor; a file holds an ordinary one.
    """
    import torch

    class ReadableTensor(torch.Tensor):
        __torch_function__: Any = torch._C._disabled_torch_function_impl

        def __array__(self, dtype: Any = None, copy: bool | None = None) -> np.ndarray:
            array = torch_array(self)
            return array if dtype is None else array.astype(dtype, copy=False)

        def __reduce_ex__(self, protocol: Any) -> Any:
            return self.as_subclass(torch.Tensor).__reduce_ex__(protocol)

        def __deepcopy__(self, memo: dict[int, Any]) -> Any:
            return self.detach().clone().as_subclass(type(self))

    return ReadableTensor


def _unbound(method: Method) -> Method:
    """Returns `method` as a function of (model, *arrays) that holds no model.

    A bound method inside the cache would keep its model alive for ever.
    """
    if isinstance(method, functools.partial):
        bound = method.func
        arguments = method.keywords
        function = bound.__func__  # type: ignore[attr-defined]
        return lambda model, *arrays: function(model, *arrays, **arguments)
    return method.__func__  # type: ignore[attr-defined]


@contextlib.contextmanager
def called_once() -> Iterator[None]:
    """Says that what is called in this block is called once.

    TensorFlow then runs without a graph: tracing one takes seconds and gains some from
    the second call on. JAX compiles all the same, as its single operations would be
    compiled one by one.
    """
    _called_once.append(True)
    try:
        yield
    finally:
        _called_once.pop()


def padded_batch(batch: np.ndarray, batch_size: int) -> np.ndarray:
    """Repeats the last row of a short batch: one shape, one compilation."""
    missing = batch_size - len(batch)
    if missing <= 0:
        return batch
    return np.concatenate([batch, np.repeat(batch[-1:], missing, axis=0)])


def no_gradient() -> Any:
    """Returns a context in which no gradient is recorded (PyTorch; else nothing)."""
    if keras.backend.backend() == "torch":
        import torch

        return torch.no_grad()
    return contextlib.nullcontext()
