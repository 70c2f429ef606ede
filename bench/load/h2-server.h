// The server of h2-stream.cc, and what it shares with its clients: the loop, the pattern, constant blocks of HPACK.

#pragma once

#include <arpa/inet.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sys/epoll.h>

#include <ctime>

#include "h2-connection.h"

inline constexpr int64_t kSecond = 1'000'000'000;
// A prime: data that slips by a page, a frame or a buffer never lines up with itself again.
inline constexpr size_t kPatternBytes = 1'048'583;

inline int64_t now() {
  timespec time;
  clock_gettime(CLOCK_MONOTONIC, &time);
  return time.tv_sec * kSecond + time.tv_nsec;
}

/** The same pseudo-random bytes in every process, twice, so that any piece of one period is in one place. */
inline const std::string& pattern() {
  static const std::string bytes = [] {
    std::string made(kPatternBytes, '\0');
    uint64_t state = 0x9E3779B97F4A7C15;  // xorshift64*: any seed but zero
    for (auto& byte : made) {
      state ^= state >> 12;
      state ^= state << 25;
      state ^= state >> 27;
      byte = static_cast<char>((state * 0x2545F4914F6CDD1D) >> 56);
    }
    return made + made;
  }();
  return bytes;
}

inline std::string_view patternAt(uint64_t offset, size_t size) {
  return std::string_view(pattern()).substr(offset % kPatternBytes, std::min(size, kPatternBytes));
}

// Edges; EPOLLRDHUP tells that a short read is not all there is.
inline constexpr uint32_t kEvents = EPOLLIN | EPOLLOUT | EPOLLRDHUP | EPOLLET;

inline bool isClosing(const epoll_event& event) { return (event.events & (EPOLLRDHUP | EPOLLHUP | EPOLLERR)) != 0; }

// :status 200 and content-type of the static table (RFC 7541 appendix A), without indexing.
inline const std::string kAnswer = "\x88\x0f\x10\x10""application/grpc";
inline const std::string kTrailers = literal("grpc-status", "0");

class Loop {
 public:
  void add(int fd, void* data, uint32_t events) {
    epoll_event event{};
    event.events = events;
    event.data.ptr = data;
    if (epoll_ctl(epoll_, EPOLL_CTL_ADD, fd, &event) != 0) failErrno("epoll_ctl");
  }
  /** @returns how many events came within `timeout` nanoseconds (-1: as long as it takes) */
  int wait(int64_t timeout) {
    const timespec time{timeout / kSecond, timeout % kSecond};
    const int count = epoll_pwait2(epoll_, events, 256, timeout < 0 ? nullptr : &time, nullptr);
    if (count < 0 && errno != EINTR) failErrno("epoll_pwait2");
    return std::max(count, 0);
  }
  epoll_event events[256];

 private:
  const int epoll_ = epoll_create1(EPOLL_CLOEXEC);
};

inline void noDelay(int fd) {
  const int on = 1;
  setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
}

/** What is still to be sent on a stream of the server. */
struct Owed {
  std::string bytes;       // came and goes back
  uint64_t download = 0;   // of the pattern
  uint64_t sent = 0;
  bool ending = false;
};

class ServerConnection : public Connection {
 public:
  explicit ServerConnection(int fd) : Connection(fd, false) {}
  bool isBroken() const { return broken_; }

 protected:
  void onHeaders(uint32_t id, bool end) override {
    if (streams().contains(id)) fail("the server is not told trailers");
    open(id);
    headers(id, kAnswer, false);
    if (end) finish(id);
  }

  void onData(uint32_t id, Stream& stream, std::string_view bytes, bool end) override {
    const auto found = waiting_.find(id);
    if (found == waiting_.end() && !isDownload(bytes)) {
      const size_t done = data(id, stream, bytes, false);
      if (done < bytes.size()) waiting_[id].bytes = bytes.substr(done);
    } else if (found == waiting_.end()) {
      waiting_[id].download = std::strtoull(std::string(bytes.substr(kDownload.size())).c_str(), nullptr, 10);
    } else {
      found->second.bytes.append(bytes);
    }
    if (!end) return;
    if (waiting_.contains(id)) waiting_[id].ending = true;
    else finish(id);
  }

  /** Sends what windows and queue take now. */
  void onRoom() override {
    for (auto it = waiting_.begin(); it != waiting_.end();) {
      if (settle(it->first, it->second)) it = waiting_.erase(it);
      else ++it;
    }
  }

  void onBroken(const std::string&) override { broken_ = true; }

  /** A client may change its mind, and others on the connection must not suffer (h2-flood). */
  void onReset(uint32_t id, uint32_t) override {
    waiting_.erase(id);
    streams().erase(id);
  }

 private:
  static constexpr std::string_view kDownload = "download ";
  static bool isDownload(std::string_view bytes) { return bytes.starts_with(kDownload); }

  /** @returns whether nothing is owed any more */
  bool settle(uint32_t id, Owed& owed) {
    Stream& stream = streams().at(id);
    owed.bytes.erase(0, data(id, stream, owed.bytes, false));
    while (owed.sent < owed.download) {
      const size_t done = data(id, stream, patternAt(owed.sent, owed.download - owed.sent), false);
      owed.sent += done;
      if (done == 0) return false;
    }
    if (!owed.bytes.empty()) return false;
    if (owed.ending) finish(id);
    return true;
  }

  void finish(uint32_t id) {
    headers(id, kTrailers, true);
    streams().erase(id);
  }

  std::unordered_map<uint32_t, Owed> waiting_;
  bool broken_ = false;
};

inline int listenAnywhere() {
  const int listener = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
  sockaddr_in address{};
  address.sin_family = AF_INET;
  address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  socklen_t length = sizeof address;
  if (bind(listener, reinterpret_cast<sockaddr*>(&address), length) != 0 || listen(listener, 1024) != 0 ||
      getsockname(listener, reinterpret_cast<sockaddr*>(&address), &length) != 0) {
    failErrno("listen");
  }
  std::printf("%d\n", ntohs(address.sin_port));
  std::fflush(stdout);
  return listener;
}

[[noreturn]] inline void serve() {
  Loop loop;
  const int listener = listenAnywhere();
  loop.add(listener, nullptr, EPOLLIN);
  for (;;) {
    const int count = loop.wait(-1);
    for (int i = 0; i < count; i++) {
      auto* connection = static_cast<ServerConnection*>(loop.events[i].data.ptr);
      if (connection == nullptr) {
        const int fd = accept4(listener, nullptr, nullptr, SOCK_NONBLOCK | SOCK_CLOEXEC);
        if (fd < 0) continue;
        noDelay(fd);
        loop.add(fd, new ServerConnection(fd), kEvents);
        continue;
      }
      const bool open = connection->receive(isClosing(loop.events[i]));
      const bool sent = connection->flushAll();
      if (!open || !sent || connection->isBroken()) delete connection;
    }
  }
}
