// The record layer of the engine without sockets, for tests: records(cipher, digest, clientSecret, serverSecret, server)
// gives a number; seal, sealAlert and open work on it.
#include <node_api.h>

#include <memory>
#include <string>
#include <vector>

#include "tls_records.h"

namespace {

using ferrule::TlsRecords;

std::vector<std::unique_ptr<TlsRecords>> all;

struct Call {
  napi_env env;
  napi_value arguments[5] = {};
  Call(napi_env env, napi_callback_info info) : env(env) {
    size_t count = 5;
    napi_get_cb_info(env, info, &count, arguments, nullptr, nullptr);
  }
  int32_t number(int i) const {
    int32_t value = 0;
    napi_get_value_int32(env, arguments[i], &value);
    return value;
  }
  std::string text(int i) const {
    char bytes[64] = {};
    size_t length = 0;
    napi_get_value_string_utf8(env, arguments[i], bytes, sizeof bytes, &length);
    return bytes;
  }
  // A copy in a block of exactly its size, so that a sanitizer sees the first byte beyond.
  std::vector<uint8_t> bytes(int i) const {
    void* data = nullptr;
    size_t length = 0;
    napi_get_buffer_info(env, arguments[i], &data, &length);
    const auto* from = static_cast<const uint8_t*>(data);
    return {from, from + length};
  }
  napi_value buffer(const uint8_t* from, size_t length) const {
    napi_value value = nullptr;
    napi_create_buffer_copy(env, length, from, nullptr, &value);
    return value;
  }
};

napi_value records(napi_env env, napi_callback_info info) {
  const Call call(env, info);
  ferrule::TlsSecrets secrets;
  secrets.cipher = EVP_get_cipherbyname(call.text(0).c_str());
  secrets.digest = EVP_get_digestbyname(call.text(1).c_str());
  const auto client = call.bytes(2), server = call.bytes(3);
  std::copy(client.begin(), client.end(), secrets.client);
  std::copy(server.begin(), server.end(), secrets.server);
  secrets.clientLength = client.size();
  secrets.serverLength = server.size();
  auto made = TlsRecords::make(secrets, call.number(4) != 0);
  napi_value number = nullptr;
  napi_create_int32(env, made == nullptr ? -1 : int32_t(all.size()), &number);
  all.push_back(std::move(made));
  return number;
}

// seal(number, bytes): records
napi_value seal(napi_env env, napi_callback_info info) {
  const Call call(env, info);
  const auto plain = call.bytes(1);
  std::vector<uint8_t> out(ferrule::sealedBytes(plain.size()));
  const size_t length = all[size_t(call.number(0))]->seal(plain.data(), plain.size(), out.data());
  return call.buffer(out.data(), length);
}

// sealAlert(number, alert): a record
napi_value sealAlert(napi_env env, napi_callback_info info) {
  const Call call(env, info);
  uint8_t out[64];
  const size_t length = all[size_t(call.number(0))]->sealAlert(ferrule::Alert(call.number(1)), out);
  return call.buffer(out, length);
}

// open(number, bytes): { plain, consumed, closed, sendAlert, peerAlert }
napi_value open(napi_env env, napi_callback_info info) {
  const Call call(env, info);
  const auto sealed = call.bytes(1);
  std::vector<uint8_t> into(sealed.size());
  const auto opened = all[size_t(call.number(0))]->open(sealed.data(), sealed.size(), into.data());
  napi_value result = nullptr, value = nullptr;
  napi_create_object(env, &result);
  napi_set_named_property(env, result, "plain", call.buffer(into.data(), opened.produced));
  const struct {
    const char* name;
    int32_t value;
  } numbers[] = {
      {"consumed", int32_t(opened.consumed)},
      {"closed", opened.closed ? 1 : 0},
      {"sendAlert", opened.sendAlert},
      {"peerAlert", opened.peerAlert},
  };
  for (const auto& number : numbers) {
    napi_create_int32(env, number.value, &value);
    napi_set_named_property(env, result, number.name, value);
  }
  return result;
}

}  // namespace

NAPI_MODULE_INIT() {
  const struct {
    const char* name;
    napi_callback function;
  } functions[] = {{"records", records}, {"seal", seal}, {"sealAlert", sealAlert}, {"open", open}};
  for (const auto& [name, function] : functions) {
    napi_value value;
    napi_create_function(env, name, NAPI_AUTO_LENGTH, function, nullptr, &value);
    napi_set_named_property(env, exports, name, value);
  }
  return exports;
}
