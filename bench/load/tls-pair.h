// Two connections, one of them with TLS, and what goes from one to the other. For tls-relay.cc.

#pragma once

#include <openssl/err.h>
#include <openssl/ssl.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cerrno>
#include <string>

// As many whole TLS records as the larger buffers of the proxies it is compared with take.
inline constexpr size_t kBuffer = 64 * 1024;

enum class Result { kDone, kAgain, kEnd, kBroken };

struct Pair;

/** One of the two connections of a pair, with TLS or without. */
struct Side {
  int fd = -1;
  SSL* ssl = nullptr;
  Pair* pair = nullptr;

  Result read(char* into, size_t room, size_t& got) {
    if (ssl == nullptr) {
      const ssize_t count = recv(fd, into, room, 0);
      if (count < 0) return errno == EAGAIN ? Result::kAgain : Result::kBroken;
      got = static_cast<size_t>(count);
      return count == 0 ? Result::kEnd : Result::kDone;
    }
    return translate(SSL_read_ex(ssl, into, room, &got));
  }

  Result write(const char* from, size_t length, size_t& put) {
    if (ssl == nullptr) {
      const ssize_t count = send(fd, from, length, MSG_NOSIGNAL);
      if (count < 0) return errno == EAGAIN ? Result::kAgain : Result::kBroken;
      put = static_cast<size_t>(count);
      return Result::kDone;
    }
    return translate(SSL_write_ex(ssl, from, length, &put));
  }

  /** Says that no more comes. */
  void end() {
    if (ssl != nullptr) SSL_shutdown(ssl);
    shutdown(fd, SHUT_WR);
  }

  Result translate(int status) {
    if (status == 1) return Result::kDone;
    const int error = SSL_get_error(ssl, status);
    ERR_clear_error();
    if (error == SSL_ERROR_WANT_READ || error == SSL_ERROR_WANT_WRITE) return Result::kAgain;
    return error == SSL_ERROR_ZERO_RETURN ? Result::kEnd : Result::kBroken;
  }
};

/** From one side to the other. */
struct Flow {
  bool readable = false;
  bool closing = false;  // its end is near and will not be announced again
  bool ended = false;    // told the other side as well
  std::string rest;      // read, but not taken by the other side yet
};

struct Pair {
  Side sides[2];
  Flow flows[2];  // flows[i] is read from sides[i]
  bool secure = false;
  bool dead = false;

  ~Pair() {
    for (auto& side : sides) {
      if (side.ssl != nullptr) SSL_free(side.ssl);
      if (side.fd >= 0) close(side.fd);
    }
  }

  /** Moves whatever can be moved after `events` on sides[index]. */
  void pump(int index, uint32_t events) {
    if ((events & ~uint32_t{EPOLLOUT}) != 0) flows[index].readable = true;
    if ((events & (EPOLLRDHUP | EPOLLHUP | EPOLLERR)) != 0) flows[index].closing = true;
    if (!secure) {
      const int encrypted = sides[0].ssl == nullptr ? 1 : 0;
      const Result result = sides[encrypted].translate(SSL_do_handshake(sides[encrypted].ssl));
      if (result == Result::kAgain) return;
      dead = result != Result::kDone;
      secure = true;
      // What came with the end of the handshake is in the library and no event announces it.
      flows[encrypted].readable = true;
    }
    for (int from : {0, 1}) {
      while (!dead && move(from)) continue;
    }
    if (flows[0].ended && flows[1].ended) dead = true;
  }

  /** @returns whether there may be more to move */
  bool move(int from) {
    static char buffer[kBuffer];
    Flow& flow = flows[from];
    if (!flow.rest.empty()) {
      flow.rest.erase(0, put(1 - from, flow.rest.data(), flow.rest.size()));
      return flow.rest.empty();
    }
    if (!flow.readable || flow.ended) return false;
    size_t filled = 0;
    const Result result = fill(from, buffer, filled);
    const size_t taken = put(1 - from, buffer, filled);
    flow.rest.assign(buffer + taken, filled - taken);
    if (result == Result::kBroken) dead = true;
    if (result == Result::kEnd && flow.rest.empty() && !dead) {
      sides[1 - from].end();
      flow.ended = true;
    }
    return flow.rest.empty() && !flow.ended;
  }

  /** Reads as much as the buffer holds: many records (SSL_read returns one), so that the other side gets them at once. */
  Result fill(int from, char* buffer, size_t& filled) {
    Result result = Result::kDone;
    while (filled < kBuffer && result == Result::kDone) {
      size_t got = 0;
      result = sides[from].read(buffer + filled, kBuffer - filled, got);
      if (result != Result::kDone) break;
      filled += got;
      // A socket that gave less than asked for is empty now: the next event says when it is not.
      if (sides[from].ssl == nullptr && filled < kBuffer && !flows[from].closing) result = Result::kAgain;
    }
    if (result == Result::kAgain) flows[from].readable = false;
    return result;
  }

  /** @returns how many bytes the side took */
  size_t put(int to, const char* from, size_t length) {
    size_t done = 0;
    while (done < length && !dead) {
      size_t taken = 0;
      const Result result = sides[to].write(from + done, length - done, taken);
      if (result == Result::kAgain) break;
      if (result != Result::kDone) dead = true;
      done += taken;
    }
    return done;
  }
};
