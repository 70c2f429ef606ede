// Streams over HTTP/2 in both directions, as gRPC has them, without TLS and with prior knowledge. One thread, epoll.
//
//   h2-stream server                      prints its port, serves until killed
//   h2-stream chat PORT CONNECTIONS STREAMS BYTES SECONDS
//                                         streams that stay open, on each a message of BYTES under way: the next one is sent
//                                         when it has come back, compared byte for byte. Then all streams are ended, and
//                                         their trailers awaited. Prints {"exchanges":n,"seconds":x,"p50":ms,"p99":ms,"p999":ms}
//   h2-stream rate PORT CONNECTIONS BYTES PER_SECOND SECONDS
//                                         unary calls with a message of BYTES there and back, each on a stream of its own, open loop: they
//                                         are due at fixed times, and one that starts late counts from when it was due. Prints as chat
//   h2-stream download PORT BYTES [check] one stream on which the server sends BYTES. Prints {"bytes":n,"seconds":x}
//
// The server sends back what it gets; a stream whose first message is `download BYTES` gets that many bytes of a pattern instead. Any
// error, any byte that is lost, added or changed, any stream that ends early: message, exit status 1.

#include <fcntl.h>
#include <sys/prctl.h>

#include <csignal>
#include <memory>
#include <vector>

#include "h2-server.h"

namespace {

// Nothing on loopback is silent for this long unless something was lost.
constexpr int64_t kGraceNs = 5 * kSecond;

std::string requestBlock(const std::string& path) {
  std::string block = "\x83\x86";  // POST, http
  block += std::string("\x04", 1) + static_cast<char>(path.size()) + path;
  block += std::string("\x01\x05") + "bench";  // :authority
  return block + "\x0f\x10\x10""application/grpc" + literal("te", "trailers");
}

/** The prefix of gRPC (not compressed, and the length) and the message. */
std::string grpcMessage(std::string_view bytes) {
  const uint32_t length = htobe32(static_cast<uint32_t>(bytes.size()));
  return std::string(1, '\0') + std::string(reinterpret_cast<const char*>(&length), sizeof length) + std::string(bytes);
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
    talk.message = grpcMessage(patternAt(id * 7919, bytes));
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

/** Unary calls, each with its own number in the message. */
class CallConnection : public Connection {
 public:
  CallConnection(int fd, size_t bytes) : Connection(fd, true), bytes_(bytes) {}
  std::vector<int64_t> latencies;

  bool hasRoom() { return streams().size() < kMostCalls; }

  void call(int64_t due) {
    const uint32_t id = next_;
    next_ += 2;
    Call& call = calls_[id];
    call.due = due;
    call.message = grpcMessage(patternAt(id * 7919, bytes_));
    Stream& stream = open(id);
    headers(id, requestBlock("/bench.Echo/Unary"), false);
    if (data(id, stream, call.message, true) < call.message.size()) fail("no window for a call");
  }

 protected:
  void onHeaders(uint32_t id, bool isEnd) override {
    const Call& call = calls_.at(id);
    if (!isEnd) return;
    if (call.returned < call.message.size()) fail("a call ended before its answer");
    latencies.push_back(now() - call.due);
    calls_.erase(id);
    streams().erase(id);
  }

  void onData(uint32_t id, Stream&, std::string_view bytes, bool isEnd) override {
    Call& call = calls_.at(id);
    if (std::string_view(call.message).substr(call.returned, bytes.size()) != bytes) fail("a message came back as another");
    call.returned += bytes.size();
    if (isEnd) fail("a call ended without trailers");
  }

  void onBroken(const std::string& how) override { fail(how); }

 private:
  struct Call {
    int64_t due = 0;
    size_t returned = 0;
    std::string message;
  };
  // Every proxy here takes a hundred; those that are due beyond wait, and count from when they were due.
  static constexpr size_t kMostCalls = 100;
  const size_t bytes_;
  uint32_t next_ = 1;
  std::unordered_map<uint32_t, Call> calls_;
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

/** Lets connections work on `count` events. */
template <typename Over>
void work(Loop& loop, int count, Over isOver) {
  for (int i = 0; i < count; i++) {
    auto& connection = *static_cast<Connection*>(loop.events[i].data.ptr);
    if (!connection.receive(isClosing(loop.events[i])) && !isOver()) fail("the connection was closed");
    if (!connection.flushAll()) failErrno("send");
  }
}

/** Lets connections work until `isOver` says so. */
template <typename Over>
void run(Loop& loop, Over isOver) {
  while (!isOver()) {
    const int count = loop.wait(kGraceNs);
    if (count == 0) fail("nothing came for a long time");
    work(loop, count, isOver);
  }
}

/** Prints what latencies of all connections come to. */
template <typename Connections>
void report(const Connections& all, int64_t start) {
  const double took = static_cast<double>(now() - start) / kSecond;
  std::vector<int64_t> latencies;
  for (const auto& one : all) latencies.insert(latencies.end(), one->latencies.begin(), one->latencies.end());
  if (latencies.empty()) fail("no exchange was made");
  std::sort(latencies.begin(), latencies.end());
  const auto quantile = [&](double share) {
    const auto index = static_cast<size_t>(share * static_cast<double>(latencies.size()));
    return static_cast<double>(latencies[std::min(index, latencies.size() - 1)]) / 1e6;
  };
  std::printf("{\"exchanges\":%zu,\"seconds\":%.6f,\"p50\":%.4f,\"p99\":%.4f,\"p999\":%.4f}\n", latencies.size(), took,
              quantile(0.5), quantile(0.99), quantile(0.999));
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
  report(all, start);
}

void rate(uint16_t port, size_t connections, size_t bytes, double perSecond, double seconds) {
  Loop loop;
  std::vector<std::unique_ptr<CallConnection>> all;
  for (size_t i = 0; i < connections; i++) {
    all.push_back(std::make_unique<CallConnection>(dial(port), bytes));
    loop.add(all.back()->fd(), all.back().get(), kEvents);
  }
  const int64_t start = now();
  const auto total = static_cast<int64_t>(perSecond * seconds);
  const auto dueOf = [&](int64_t index) { return start + static_cast<int64_t>(static_cast<double>(index) * (kSecond / perSecond)); };
  int64_t made = 0;
  const auto isOver = [&] {
    return made == total && std::all_of(all.begin(), all.end(), [](const auto& one) { return one->streams().empty(); });
  };
  const int64_t deadline = dueOf(total) + kGraceNs;
  while (!isOver()) {
    // In turn over all connections; one without room holds up those behind it, as their time counts.
    for (; made < total && dueOf(made) <= now() && all[made % connections]->hasRoom(); made++) {
      all[made % connections]->call(dueOf(made));
    }
    for (const auto& one : all) {
      if (!one->flushAll()) failErrno("send");
    }
    const bool isWaiting = made < total && all[made % connections]->hasRoom();
    if (now() > deadline) fail("calls did not end in time");
    work(loop, loop.wait(isWaiting ? std::max<int64_t>(dueOf(made) - now(), 0) : deadline - now()), isOver);
  }
  report(all, start);
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
  } else if (mode == "rate" && argc == 7) {
    prctl(PR_SET_TIMERSLACK, 1);  // the default of 50 µs would be a latency of its own
    rate(port, static_cast<size_t>(number(3)), static_cast<size_t>(number(4)), number(5), number(6));
  } else if (mode == "download" && argc >= 4) {
    download(port, std::strtoull(argv[3], nullptr, 10), argc > 4);
  } else {
    fail("usage: h2-stream server | chat PORT CONNECTIONS STREAMS BYTES SECONDS | rate PORT CONNECTIONS BYTES PER_SECOND SECONDS | "
         "download PORT BYTES [check]");
  }
  return 0;
}
