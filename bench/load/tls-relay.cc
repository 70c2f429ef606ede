// The least that relays connections over mutual TLS 1.3: one thread, epoll, OpenSSL as its manual shows it, only
// full handshakes.
// What a proxy costs beyond this, it costs by itself; what this costs, the kernel and the library cost.
//
//   tls-relay server LISTEN BACKEND CERTIFICATE KEY TRUST GROUP        takes TLS, passes plaintext on
//   tls-relay client LISTEN BACKEND CERTIFICATE KEY TRUST GROUP NAME   takes plaintext, dials TLS and expects NAME
//
// Ports of 127.0.0.1. Serves until killed. With ADDON defined it is an addon of node, which has its own OpenSSL and
// exports it: `run(arguments)` never returns.

#include <arpa/inet.h>
#include <netinet/in.h>
#include <netinet/tcp.h>

#include <csignal>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <vector>

#include "tls-pair.h"

namespace {

[[noreturn]] void fail(const std::string& message) {
  std::fprintf(stderr, "%s\n", message.c_str());
  std::exit(1);
}

[[noreturn]] void failTls(const char* call) {
  char text[256];
  ERR_error_string_n(ERR_get_error(), text, sizeof text);
  fail(std::string(call) + ": " + text);
}

sockaddr_in loopback(int port) {
  sockaddr_in address{};
  address.sin_family = AF_INET;
  address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  address.sin_port = htons(static_cast<uint16_t>(port));
  return address;
}

class Relay {
 public:
  explicit Relay(const std::vector<std::string>& arguments)
      : isServer_(arguments[0] == "server"), backend_(loopback(std::atoi(arguments[2].c_str()))) {
    context_ = SSL_CTX_new(isServer_ ? TLS_server_method() : TLS_client_method());
    if (context_ == nullptr || SSL_CTX_set_min_proto_version(context_, TLS1_3_VERSION) != 1 ||
        SSL_CTX_use_certificate_chain_file(context_, arguments[3].c_str()) != 1 ||
        SSL_CTX_use_PrivateKey_file(context_, arguments[4].c_str(), SSL_FILETYPE_PEM) != 1 ||
        SSL_CTX_load_verify_locations(context_, arguments[5].c_str(), nullptr) != 1 ||
        SSL_CTX_set_ciphersuites(context_, "TLS_AES_128_GCM_SHA256") != 1 ||
        SSL_CTX_set1_groups_list(context_, arguments[6].c_str()) != 1) {
      failTls("context");
    }
    SSL_CTX_set_verify(context_, SSL_VERIFY_PEER | SSL_VERIFY_FAIL_IF_NO_PEER_CERT, nullptr);
    // Header and body of a record with one call to the kernel.
    SSL_CTX_set_read_ahead(context_, 1);
    SSL_CTX_set_num_tickets(context_, 0);
    SSL_CTX_set_session_cache_mode(context_, SSL_SESS_CACHE_OFF);
    SSL_CTX_set_mode(context_, SSL_MODE_ENABLE_PARTIAL_WRITE | SSL_MODE_ACCEPT_MOVING_WRITE_BUFFER |
                                   SSL_MODE_RELEASE_BUFFERS);
#ifdef SSL_OP_NO_TX_CERTIFICATE_COMPRESSION
    // Node's library would compress the certificate in every handshake, which costs more than the rest of it.
    SSL_CTX_set_options(context_, SSL_OP_NO_TX_CERTIFICATE_COMPRESSION | SSL_OP_NO_RX_CERTIFICATE_COMPRESSION);
#endif
    if (!isServer_) name_ = arguments[7];
    listen(std::atoi(arguments[1].c_str()));
  }

  [[noreturn]] void run() {
    epoll_event events[256];
    for (;;) {
      const int count = epoll_wait(epoll_, events, 256, -1);
      for (int i = 0; i < count; i++) {
        if (events[i].data.ptr == nullptr) {
          accept();
        } else {
          handle(*static_cast<Side*>(events[i].data.ptr), events[i].events);
        }
      }
      // Not before: both sides of a pair may be in one batch.
      for (Pair* pair : dying_) delete pair;
      dying_.clear();
    }
  }

 private:
  void handle(const Side& side, uint32_t events) {
    Pair* pair = side.pair;
    if (pair->dead) return;
    pair->pump(&side == &pair->sides[1] ? 1 : 0, events);
    if (pair->dead) dying_.push_back(pair);
  }

  void listen(int port) {
    listener_ = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    const int on = 1;
    setsockopt(listener_, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
    const sockaddr_in address = loopback(port);
    if (bind(listener_, reinterpret_cast<const sockaddr*>(&address), sizeof address) != 0 ||
        ::listen(listener_, 4096) != 0) {
      fail(std::string("listen: ") + std::strerror(errno));
    }
    epoll_event event{};
    event.events = EPOLLIN;
    epoll_ctl(epoll_, EPOLL_CTL_ADD, listener_, &event);
  }

  void accept() {
    for (;;) {
      const int fd = accept4(listener_, nullptr, nullptr, SOCK_NONBLOCK | SOCK_CLOEXEC);
      if (fd < 0) return;
      auto* pair = new Pair;
      pair->sides[0].fd = fd;
      pair->sides[1].fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
      if (pair->sides[1].fd < 0) fail(std::string("socket: ") + std::strerror(errno));
      // On loopback a listener answers at once, and one that does not breaks the pair at the first write.
      connect(pair->sides[1].fd, reinterpret_cast<const sockaddr*>(&backend_), sizeof backend_);
      secure(pair->sides[isServer_ ? 0 : 1]);
      for (auto& side : pair->sides) watch(side, pair);
    }
  }

  void secure(Side& side) {
    side.ssl = SSL_new(context_);
    if (side.ssl == nullptr || SSL_set_fd(side.ssl, side.fd) != 1) failTls("SSL_new");
    if (isServer_) {
      SSL_set_accept_state(side.ssl);
    } else {
      SSL_set_connect_state(side.ssl);
      if (SSL_set1_host(side.ssl, name_.c_str()) != 1) failTls("SSL_set1_host");
      SSL_set_tlsext_host_name(side.ssl, name_.c_str());
    }
  }

  void watch(Side& side, Pair* pair) {
    side.pair = pair;
    const int on = 1;
    setsockopt(side.fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
    epoll_event event{};
    event.events = EPOLLIN | EPOLLOUT | EPOLLRDHUP | EPOLLET;
    event.data.ptr = &side;
    epoll_ctl(epoll_, EPOLL_CTL_ADD, side.fd, &event);
  }

  const bool isServer_;
  const sockaddr_in backend_;
  std::string name_;
  SSL_CTX* context_ = nullptr;
  int listener_ = -1;
  int epoll_ = epoll_create1(EPOLL_CLOEXEC);
  std::vector<Pair*> dying_;
};

[[noreturn]] void relay(const std::vector<std::string>& arguments) {
  std::signal(SIGPIPE, SIG_IGN);
  const bool isClient = !arguments.empty() && arguments[0] == "client";
  if (arguments.size() != (isClient ? 8 : 7)) {
    fail("usage: tls-relay server|client LISTEN BACKEND CERTIFICATE KEY TRUST GROUP [NAME]");
  }
  Relay(arguments).run();
}

}  // namespace

#ifdef ADDON
#include <node_api.h>

static napi_value run(napi_env env, napi_callback_info info) {
  size_t count = 1;
  napi_value list;
  uint32_t length = 0;
  napi_get_cb_info(env, info, &count, &list, nullptr, nullptr);
  napi_get_array_length(env, list, &length);
  std::vector<std::string> arguments;
  for (uint32_t i = 0; i < length; i++) {
    napi_value element;
    char text[4096];
    size_t written = 0;
    napi_get_element(env, list, i, &element);
    napi_get_value_string_utf8(env, element, text, sizeof text, &written);
    arguments.emplace_back(text, written);
  }
  // Node would handle these in the thread that never returns from here.
  std::signal(SIGTERM, SIG_DFL);
  relay(arguments);
}

NAPI_MODULE_INIT() {
  napi_value function;
  napi_create_function(env, "run", NAPI_AUTO_LENGTH, run, nullptr, &function);
  napi_set_named_property(env, exports, "run", function);
  return exports;
}
#else
int main(int argc, char** argv) { relay({argv + 1, argv + argc}); }
#endif
