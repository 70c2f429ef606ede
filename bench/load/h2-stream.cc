// Streams over HTTP/2 in both directions, as gRPC has them, without TLS and with prior knowledge. One thread, epoll.
//
//   h2-stream server                      prints its port, serves until killed
//   h2-stream chat PORT CONNECTIONS STREAMS BYTES SECONDS
//                                         streams that stay open, on each a message of BYTES under way: the next one is sent
//                                         when it has come back, compared byte for byte. Then all streams are ended, and
//                                         their trailers awaited. Prints {"exchanges":n,"seconds":x,"p50":ms,"p99":ms,"p999":ms}
//   h2-stream download PORT BYTES [check] one stream on which the server sends BYTES. Prints {"bytes":n,"seconds":x}
//
// The server sends back what it gets; a stream whose first message is `download BYTES` gets that many bytes of a pattern instead. Any
// error, any byte that is lost, added or changed, any stream that ends early: message, exit status 1.

#include <arpa/inet.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sys/epoll.h>

#include <csignal>
#include <ctime>
#include <memory>
#include <vector>

#include "h2-connection.h"

namespace {

constexpr int64_t kSecond = 1'000'000'000;
// Nothing on loopback is silent for this long unless something was lost.
constexpr int64_t kGraceNs = 5 * kSecond;
// A prime: data that slips by a page, a frame or a buffer never lines up with itself again.
constexpr size_t kPatternBytes = 1'048'583;

int64_t now() {
  timespec time;
  clock_gettime(CLOCK_MONOTONIC, &time);
  return time.tv_sec * kSecond + time.tv_nsec;
}

/** The same pseudo-random bytes in every process, twice, so that any piece of one period is in one place. */
const std::string& pattern() {
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

std::string_view patternAt(uint64_t offset, size_t size) {
  return std::string_view(pattern()).substr(offset % kPatternBytes, std::min(size, kPatternBytes));
}

// Edges; EPOLLRDHUP tells that a short read is not all there is.
constexpr uint32_t kEvents = EPOLLIN | EPOLLOUT | EPOLLRDHUP | EPOLLET;

bool isClosing(const epoll_event& event) { return (event.events & (EPOLLRDHUP | EPOLLHUP | EPOLLERR)) != 0; }

// :status 200 and content-type of the static table (RFC 7541 appendix A), without indexing.
const std::string kAnswer = "\x88\x0f\x10\x10""application/grpc";
const std::string kTrailers = literal("grpc-status", "0");

std::string requestBlock(const std::string& path) {
  std::string block = "\x83\x86";  // POST, http
  block += std::string("\x04", 1) + static_cast<char>(path.size()) + path;
  block += std::string("\x01\x05") + "bench";  // :authority
  return block + "\x0f\x10\x10""application/grpc" + literal("te", "trailers");
}

class Loop {
 public:
  void add(int fd, void* data, uint32_t events) {
    epoll_event event{};
    event.events = events;
    event.data.ptr = data;
    if (epoll_ctl(epoll_, EPOLL_CTL_ADD, fd, &event) != 0) failErrno("epoll_ctl");
  }
  /** @returns how many events came within `timeoutMs` (-1: as long as it takes) */
  int wait(int timeoutMs) {
    const int count = epoll_wait(epoll_, events, 256, timeoutMs);
    if (count < 0 && errno != EINTR) failErrno("epoll_wait");
    return std::max(count, 0);
  }
  epoll_event events[256];

 private:
  const int epoll_ = epoll_create1(EPOLL_CLOEXEC);
};

void noDelay(int fd) {
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

int listenAnywhere() {
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

[[noreturn]] void serve() {
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

/** A stream of a client: what it has sent and awaits. */
struct Talk {
  uint32_t id = 0;
  Stream* stream = nullptr;
  std::string message;
  size_t sent = 0;
  size_t returned = 0;
  int64_t sentAt = 0;
  uint64_t turn = 0;
  bool answered = false;
  bool ended = false;
};

class ClientConnection : public Connection {
 public:
  using Connection::Connection;
  int64_t end = 0;
  std::vector<int64_t> latencies;
  std::vector<std::unique_ptr<Talk>> talks;
  size_t ended = 0;

  void begin(uint32_t id, size_t bytes) {
    talks.push_back(std::make_unique<Talk>());
    Talk& talk = *talks.back();
    talk.id = id;
    talk.stream = &open(id);
    talk.stream->user = &talk;
    // The prefix of gRPC: not compressed, and the length.
    const uint32_t length = htobe32(static_cast<uint32_t>(bytes));
    talk.message = std::string(1, '\0') + std::string(reinterpret_cast<const char*>(&length), 4) +
                   std::string(patternAt(id * 7919, bytes));
    headers(id, requestBlock("/bench.Echo/Chat"), false);
    say(talk);
  }

 protected:
  void onHeaders(uint32_t id, bool isEnd) override {
    Talk& talk = *static_cast<Talk*>(streams().at(id).user);
    if (isEnd != talk.answered) fail(isEnd ? "a stream was answered with an end" : "a stream was answered twice");
    talk.answered = true;
    if (!isEnd) return;
    if (!talk.ended || talk.returned < talk.message.size()) fail("a stream ended before its client had ended it");
    ended++;
  }

  void onData(uint32_t id, Stream& stream, std::string_view bytes, bool isEnd) override {
    Talk& talk = *static_cast<Talk*>(stream.user);
    if (std::string_view(talk.message).substr(talk.returned, bytes.size()) != bytes) fail("a message came back as another");
    talk.returned += bytes.size();
    if (isEnd) fail("a stream ended without trailers");
    if (talk.returned < talk.message.size() || talk.ended) return;
    const int64_t time = now();
    latencies.push_back(time - talk.sentAt);
    if (time < end) return say(talk);
    talk.ended = true;
    data(id, stream, "", true);
  }

  void onRoom() override {
    for (auto& talk : talks) push(*talk);
  }

  void onBroken(const std::string& how) override { fail(how); }

 private:
  void say(Talk& talk) {
    // The number of the turn makes each message another one.
    talk.turn++;
    std::memcpy(talk.message.data() + 5, &talk.turn, sizeof talk.turn);
    talk.sent = 0;
    talk.returned = 0;
    talk.sentAt = now();
    push(talk);
  }

  void push(Talk& talk) {
    if (talk.sent == talk.message.size()) return;
    talk.sent += data(talk.id, *talk.stream, std::string_view(talk.message).substr(talk.sent), false);
  }
};

class DownloadConnection : public Connection {
 public:
  DownloadConnection(int fd, uint64_t bytes, bool check) : Connection(fd, true), bytes_(bytes), check_(check) {
    Stream& stream = open(1);
    headers(1, requestBlock("/bench.Echo/Download"), false);
    data(1, stream, "download " + std::to_string(bytes), true);
  }
  bool isDone() const { return done_; }

 protected:
  void onHeaders(uint32_t, bool isEnd) override {
    if (isEnd && taken_ != bytes_) fail(std::to_string(taken_) + " bytes arrived instead of " + std::to_string(bytes_));
    done_ = isEnd;
  }
  void onData(uint32_t, Stream&, std::string_view bytes, bool) override {
    if (check_ && patternAt(taken_, bytes.size()) != bytes) fail("wrong or lost bytes after " + std::to_string(taken_));
    taken_ += bytes.size();
  }
  void onBroken(const std::string& how) override { fail(how); }

 private:
  const uint64_t bytes_;
  const bool check_;
  uint64_t taken_ = 0;
  bool done_ = false;
};

int dial(uint16_t port) {
  const int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
  sockaddr_in address{};
  address.sin_family = AF_INET;
  address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  address.sin_port = htons(port);
  if (connect(fd, reinterpret_cast<sockaddr*>(&address), sizeof address) != 0) failErrno("connect");
  noDelay(fd);
  const int flags = fcntl(fd, F_GETFL);
  if (fcntl(fd, F_SETFL, flags | O_NONBLOCK) != 0) failErrno("fcntl");
  return fd;
}

/** Lets connections work until `isOver` says so. */
template <typename Over>
void run(Loop& loop, Over isOver) {
  while (!isOver()) {
    const int count = loop.wait(static_cast<int>(kGraceNs / 1'000'000));
    if (count == 0) fail("nothing came for a long time");
    for (int i = 0; i < count; i++) {
      auto& connection = *static_cast<Connection*>(loop.events[i].data.ptr);
      if (!connection.receive(isClosing(loop.events[i])) && !isOver()) fail("the connection was closed");
      if (!connection.flushAll()) failErrno("send");
    }
  }
}

void chat(uint16_t port, size_t connections, size_t streams, size_t bytes, double seconds) {
  Loop loop;
  std::vector<std::unique_ptr<ClientConnection>> all;
  const int64_t start = now();
  for (size_t i = 0; i < connections; i++) {
    all.push_back(std::make_unique<ClientConnection>(dial(port), true));
    all.back()->end = start + static_cast<int64_t>(seconds * kSecond);
    for (size_t stream = 0; stream < streams; stream++) all.back()->begin(static_cast<uint32_t>(2 * stream + 1), bytes);
    if (!all.back()->flush()) failErrno("send");
    loop.add(all.back()->fd(), all.back().get(), kEvents);
  }
  run(loop, [&] { return std::all_of(all.begin(), all.end(), [&](const auto& one) { return one->ended == streams; }); });
  const double took = static_cast<double>(now() - start) / kSecond;
  std::vector<int64_t> latencies;
  for (const auto& one : all) latencies.insert(latencies.end(), one->latencies.begin(), one->latencies.end());
  std::sort(latencies.begin(), latencies.end());
  const auto quantile = [&](double share) {
    const auto index = static_cast<size_t>(share * static_cast<double>(latencies.size()));
    return static_cast<double>(latencies[std::min(index, latencies.size() - 1)]) / 1e6;
  };
  std::printf("{\"exchanges\":%zu,\"seconds\":%.6f,\"p50\":%.4f,\"p99\":%.4f,\"p999\":%.4f}\n", latencies.size(), took,
              quantile(0.5), quantile(0.99), quantile(0.999));
}

void download(uint16_t port, uint64_t bytes, bool check) {
  pattern();  // made before the clock starts
  Loop loop;
  const int64_t start = now();
  DownloadConnection connection(dial(port), bytes, check);
  if (!connection.flush()) failErrno("send");
  loop.add(connection.fd(), &connection, kEvents);
  run(loop, [&] { return connection.isDone(); });
  const double took = static_cast<double>(now() - start) / kSecond;
  std::printf("{\"bytes\":%llu,\"seconds\":%.6f}\n", static_cast<unsigned long long>(bytes), took);
}

}  // namespace

int main(int argc, char** argv) {
  std::signal(SIGPIPE, SIG_IGN);
  const std::string mode = argc > 1 ? argv[1] : "";
  const auto number = [&](int index) { return argc > index ? std::atof(argv[index]) : 0; };
  const auto port = static_cast<uint16_t>(number(2));
  if (mode == "server") serve();
  if (mode == "chat" && argc == 7 && number(5) >= 8) {
    chat(port, static_cast<size_t>(number(3)), static_cast<size_t>(number(4)), static_cast<size_t>(number(5)), number(6));
  } else if (mode == "download" && argc >= 4) {
    download(port, std::strtoull(argv[3], nullptr, 10), argc > 4);
  } else {
    fail("usage: h2-stream server | chat PORT CONNECTIONS STREAMS BYTES SECONDS | download PORT BYTES [check]");
  }
  return 0;
}
