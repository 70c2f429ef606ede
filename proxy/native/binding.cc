// The face towards TypeScript: a dozen functions over numbers and shared buffers. State is per environment, so that every
// worker has an engine of its own; engine.ts is the only caller and checks what it passes.
#include <node_api.h>
#include <uv.h>

#include <cerrno>
#include <unistd.h>

#include <openssl/crypto.h>

#include <memory>
#include <string>

#include "engine.h"
#include "sockets.h"

namespace ferrule {

namespace {

// One environment's engine and what it holds on to. Buffers are referenced: the collector must not take them away.
struct Environment {
  napi_env env = nullptr;
  std::unique_ptr<Engine> engine;
  napi_ref callback = nullptr;
  napi_ref buffers = nullptr;
  napi_async_context asyncContext = nullptr;
  napi_async_cleanup_hook_handle cleanup = nullptr;
  bool stopping = false;
  int32_t* address = nullptr;
};

// Every call here is made by engine.ts with the right types; what fails is a bug or a dying environment.
#define CHECK_NAPI(call)                                         \
  do {                                                           \
    if ((call) != napi_ok) {                                     \
      napi_throw_error(env, "FERRULE_NATIVE", "failed: " #call); \
      return nullptr;                                            \
    }                                                            \
  } while (0)

Environment* stateOf(napi_env env) {
  void* data = nullptr;
  napi_get_instance_data(env, &data);
  return static_cast<Environment*>(data);
}

napi_value toNumber(napi_env env, int32_t number) {
  napi_value value = nullptr;
  napi_create_int32(env, number, &value);
  return value;
}

template <size_t N>
bool readInts(napi_env env, napi_callback_info info, int32_t (&out)[N]) {
  napi_value arguments[N];
  size_t count = N;
  if (napi_get_cb_info(env, info, &count, arguments, nullptr, nullptr) != napi_ok || count < N) return false;
  for (size_t i = 0; i < N; i++) {
    if (napi_get_value_int32(env, arguments[i], &out[i]) != napi_ok) return false;
  }
  return true;
}

bool deliverBatch(void* context, int buffer, int records) {
  auto* state = static_cast<Environment*>(context);
  napi_env env = state->env;
  napi_handle_scope scope;
  if (napi_open_handle_scope(env, &scope) != napi_ok) return false;
  napi_value callback, receiver, result, arguments[2] = {toNumber(env, buffer), toNumber(env, records)};
  bool called = false;
  if (napi_get_reference_value(env, state->callback, &callback) == napi_ok &&
      napi_get_reference_value(env, state->buffers, &receiver) == napi_ok) {
    // make_callback, not call_function: microtasks and nextTick run behind it.
    const napi_status status =
        napi_make_callback(env, state->asyncContext, receiver, callback, 2, arguments, &result);
    called = status == napi_ok;
    if (status == napi_pending_exception) {
      napi_value error;
      // An uncaught exception: the process (or the worker) decides, as for any other.
      if (napi_get_and_clear_last_exception(env, &error) == napi_ok) napi_fatal_exception(env, error);
    }
  }
  napi_close_handle_scope(env, scope);
  return called;
}

// The engine's handles are closed: nothing of it is used any more.
void engineStopped(void* context) {
  auto* state = static_cast<Environment*>(context);
  napi_env env = state->env;
  napi_delete_reference(env, state->callback);
  napi_delete_reference(env, state->buffers);
  napi_async_destroy(env, state->asyncContext);
  state->callback = state->buffers = nullptr;
  state->engine.reset();
  state->stopping = false;
  napi_async_cleanup_hook_handle handle = state->cleanup;
  state->cleanup = nullptr;
  napi_remove_async_cleanup_hook(handle);
}

void stopEngine(Environment* state) {
  if (state->engine == nullptr || state->stopping) return;
  state->stopping = true;
  state->engine->stop(engineStopped, state);
}

// Without this hook a worker that ends with open handles aborts the process.
void onEnvironmentExit(napi_async_cleanup_hook_handle, void* context) { stopEngine(static_cast<Environment*>(context)); }

bool addBuffer(napi_env env, napi_value holder, const char* name, size_t bytes, void** data) {
  napi_value buffer;
  return napi_create_arraybuffer(env, bytes, data, &buffer) == napi_ok &&
         napi_set_named_property(env, holder, name, buffer) == napi_ok;
}

// start(metrics: Float64Array, onBatch: (buffer, records) => void): { events0, events1, operations, slab, address }
napi_value start(napi_env env, napi_callback_info info) {
  Environment* state = stateOf(env);
  if (state->engine != nullptr) {
    napi_throw_error(env, "FERRULE_ENGINE_RUNNING", "this thread has an engine already, or one that is still stopping");
    return nullptr;
  }
  napi_value arguments[2];
  size_t count = 2;
  CHECK_NAPI(napi_get_cb_info(env, info, &count, arguments, nullptr, nullptr));
  napi_value holder, name;
  CHECK_NAPI(napi_create_object(env, &holder));
  CHECK_NAPI(napi_set_named_property(env, holder, "metrics", arguments[0]));
  Buffers buffers = {};
  napi_typedarray_type type;
  void* data[5];
  CHECK_NAPI(napi_get_typedarray_info(env, arguments[0], &type, &buffers.metricsSlots, &data[0], nullptr, nullptr));
  if (type != napi_float64_array || buffers.metricsSlots * sizeof(double) < sizeof(Figures)) {
    napi_throw_type_error(env, nullptr, "metrics must be a Float64Array with room for the engine's figures");
    return nullptr;
  }
  buffers.metrics = static_cast<double*>(data[0]);
  const size_t eventBytes = EVENT_RECORDS * RECORD_INTS * sizeof(int32_t);
  const bool made = addBuffer(env, holder, "events0", eventBytes, &data[0]) &&
                    addBuffer(env, holder, "events1", eventBytes, &data[1]) &&
                    addBuffer(env, holder, "operations", OPERATION_RECORDS * RECORD_INTS * sizeof(int32_t), &data[2]) &&
                    addBuffer(env, holder, "slab", SLAB_BYTES, &data[3]) &&
                    addBuffer(env, holder, "address", ADDRESS_WORDS * sizeof(int32_t), &data[4]);
  if (!made) return nullptr;
  buffers.events[0] = static_cast<int32_t*>(data[0]);
  buffers.events[1] = static_cast<int32_t*>(data[1]);
  buffers.operations = static_cast<int32_t*>(data[2]);
  buffers.slab = static_cast<uint8_t*>(data[3]);
  state->address = static_cast<int32_t*>(data[4]);
  uv_loop_t* loop;
  CHECK_NAPI(napi_get_uv_event_loop(env, &loop));
  CHECK_NAPI(napi_create_string_utf8(env, "ferrule", NAPI_AUTO_LENGTH, &name));
  CHECK_NAPI(napi_async_init(env, holder, name, &state->asyncContext));
  CHECK_NAPI(napi_create_reference(env, arguments[1], 1, &state->callback));
  CHECK_NAPI(napi_create_reference(env, holder, 1, &state->buffers));
  auto engine = std::make_unique<Engine>(loop, buffers, deliverBatch, state);
  const int error = engine->start();
  if (error != 0) {
    napi_throw_error(env, "FERRULE_EPOLL", uv_strerror(error));
    return nullptr;
  }
  CHECK_NAPI(napi_add_async_cleanup_hook(env, onEnvironmentExit, state, &state->cleanup));
  state->engine = std::move(engine);
  return holder;
}

napi_value stop(napi_env env, napi_callback_info) {
  stopEngine(stateOf(env));
  return nullptr;
}

Engine* running(napi_env env) {
  Environment* state = stateOf(env);
  if (state->engine != nullptr && !state->stopping) return state->engine.get();
  napi_throw_error(env, "FERRULE_ENGINE_STOPPED", "the engine of this thread is not running");
  return nullptr;
}

// flush(operations): runs them now.
napi_value flush(napi_env env, napi_callback_info info) {
  int32_t arguments[1];
  Engine* engine = running(env);
  if (engine == nullptr || !readInts(env, info, arguments)) return nullptr;
  engine->refreshClock();
  engine->runOperations(arguments[0]);
  return nullptr;
}

// connect(track): the address is in the address buffer; an id or -errno.
napi_value connect(napi_env env, napi_callback_info info) {
  int32_t arguments[1];
  Engine* engine = running(env);
  if (engine == nullptr || !readInts(env, info, arguments)) return nullptr;
  return toNumber(env, engine->connect(Address::load(stateOf(env)->address), arguments[0] != 0));
}

// addListener(descriptor, transparent): its number or -errno.
napi_value addListener(napi_env env, napi_callback_info info) {
  int32_t arguments[2];
  Engine* engine = running(env);
  if (engine == nullptr || !readInts(env, info, arguments)) return nullptr;
  return toNumber(env, engine->addListener(arguments[0], arguments[1] != 0));
}

napi_value removeListener(napi_env env, napi_callback_info info) {
  int32_t arguments[1];
  Engine* engine = running(env);
  if (engine != nullptr && readInts(env, info, arguments)) engine->removeListener(arguments[0]);
  return nullptr;
}

bool readText(napi_env env, napi_value value, std::string& out) {
  size_t length = 0;
  if (napi_get_value_string_utf8(env, value, nullptr, 0, &length) != napi_ok) return false;
  out.resize(length + 1);
  if (napi_get_value_string_utf8(env, value, out.data(), out.size(), &length) != napi_ok) return false;
  out.resize(length);
  return true;
}

// makeContext(certificate, key, trustAnchors: PEM text): its number; throws what OpenSSL says.
napi_value makeContext(napi_env env, napi_callback_info info) {
  napi_value arguments[3];
  size_t count = 3;
  CHECK_NAPI(napi_get_cb_info(env, info, &count, arguments, nullptr, nullptr));
  Engine* engine = running(env);
  std::string texts[3];
  for (size_t i = 0; i < 3; i++) {
    if (engine == nullptr || !readText(env, arguments[i], texts[i])) return nullptr;
  }
  std::string error;
  SSL_CTX* context = makeTlsContext(texts[0], texts[1], texts[2], error);
  OPENSSL_cleanse(texts[1].data(), texts[1].size());
  if (context == nullptr) {
    napi_throw_error(env, "FERRULE_TLS", error.c_str());
    return nullptr;
  }
  return toNumber(env, engine->addContext(context));
}

// dropContext(number): no connection starts with it any more.
napi_value dropContext(napi_env env, napi_callback_info info) {
  int32_t arguments[1];
  Engine* engine = running(env);
  if (engine != nullptr && readInts(env, info, arguments)) engine->dropContext(arguments[0]);
  return nullptr;
}

// openListener(family << 16 | port, w0, w1, w2, w3, backlog, reusePort): a descriptor or -errno. Needs no engine.
napi_value openListenerFor(napi_env env, napi_callback_info info) {
  int32_t arguments[7];
  if (!readInts(env, info, arguments)) return nullptr;
  return toNumber(env, openListener(Address::load(arguments), arguments[5], arguments[6] != 0));
}

// closeListener(descriptor)
napi_value closeListener(napi_env env, napi_callback_info info) {
  int32_t arguments[1];
  if (readInts(env, info, arguments)) close(arguments[0]);
  return nullptr;
}

// listenerPort(descriptor): the port it is bound to; 0 when the kernel does not tell.
napi_value listenerPort(napi_env env, napi_callback_info info) {
  int32_t arguments[1];
  if (!readInts(env, info, arguments)) return nullptr;
  return toNumber(env, localAddress(arguments[0]).port);
}

}  // namespace

napi_value initialise(napi_env env, napi_value exports) {
  auto* state = new Environment();
  state->env = env;
  const auto finalize = [](napi_env, void* data, void*) { delete static_cast<Environment*>(data); };
  CHECK_NAPI(napi_set_instance_data(env, state, finalize, nullptr));
  const struct {
    const char* name;
    napi_callback function;
  } functions[] = {
      {"start", start},
      {"stop", stop},
      {"flush", flush},
      {"connect", connect},
      {"addListener", addListener},
      {"removeListener", removeListener},
      {"makeContext", makeContext},
      {"dropContext", dropContext},
      {"openListener", openListenerFor},
      {"closeListener", closeListener},
      {"listenerPort", listenerPort},
  };
  for (const auto& [name, function] : functions) {
    napi_value value;
    CHECK_NAPI(napi_create_function(env, name, NAPI_AUTO_LENGTH, function, nullptr, &value));
    CHECK_NAPI(napi_set_named_property(env, exports, name, value));
  }
  return exports;
}

}  // namespace ferrule

NAPI_MODULE_INIT() { return ferrule::initialise(env, exports); }
