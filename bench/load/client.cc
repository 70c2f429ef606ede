// HTTP exchanges over many connections, each answer checked. One thread, epoll.
//
//   client connect PORT CONCURRENCY SECONDS     a new connection for every exchange; the clock starts before connect()
//   client rate PORT CONNECTIONS PER_SECOND SECONDS
//                                               kept connections, open loop: exchanges are due at fixed times, and an exchange
//                                               that starts late counts from when it was due
//   client idle PORT CONNECTIONS                one exchange on each; prints a line; waits for the end of its standard input; one more
//                                               exchange on each, which proves that all of them are alive
//
// Prints {"exchanges":n,"seconds":x,"p50":ms,"p99":ms,"p999":ms}. Any error, any answer that is not the expected one, any
// exchange that does not end in time: message, exit status 1.

#include <arpa/inet.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sys/epoll.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <ctime>
#include <string>
#include <string_view>
#include <vector>

namespace {

constexpr std::string_view kStatus = "HTTP/1.1 200 ";
constexpr std::string_view kBody = "hello world\n";  // bench/backends/http.ts
constexpr int64_t kSecond = 1'000'000'000;
// No exchange on loopback takes this long unless something hangs.
constexpr int64_t kGraceNs = 5 * kSecond;
// While connections are opened for the idle mode: far below every listen queue.
constexpr size_t kOpening = 64;

[[noreturn]] void fail(const std::string& message) {
  std::fprintf(stderr, "%s\n", message.c_str());
  std::exit(1);
}

[[noreturn]] void failErrno(const char* call) { fail(std::string(call) + ": " + std::strerror(errno)); }

int64_t now() {
  timespec time;
  clock_gettime(CLOCK_MONOTONIC, &time);
  return time.tv_sec * kSecond + time.tv_nsec;
}

enum class State : uint8_t { kClosed, kConnecting, kFree, kWaiting, kWaitingForEnd };

struct Connection {
  int fd = -1;
  State state = State::kClosed;
  int64_t due = 0;
  std::string answer;
};

class Client {
 public:
  Client(uint16_t port, size_t connections, bool keep) : keep_(keep), connections_(connections) {
    address_.sin_family = AF_INET;
    address_.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    address_.sin_port = htons(port);
    request_ = std::string("GET / HTTP/1.1\r\nHost: bench\r\n") + (keep ? "" : "Connection: close\r\n") + "\r\n";
    if (epoll_ < 0) failErrno("epoll_create1");
  }

  /** New connections, `connections` at a time, until the time is up. */
  void connectFor(int64_t duration) {
    const int64_t start = now();
    const int64_t end = start + duration;
    for (auto& connection : connections_) open(connection);
    while (busy_ > 0) {
      poll(end + kGraceNs, -1);
      if (now() >= end) continue;
      for (auto& connection : connections_) {
        if (connection.state == State::kClosed) open(connection);
      }
    }
    report(start);
  }

  /** Opens all and makes one exchange on each. */
  void openAll() {
    const int64_t start = now();
    size_t opened = 0;
    while (opened < connections_.size() || busy_ > 0) {
      while (opened < connections_.size() && busy_ < kOpening) open(connections_[opened++]);
      poll(start + 4 * kGraceNs, -1);
    }
  }

  /** One exchange on every open connection. */
  void exchangeOnAll() {
    const int64_t start = now();
    for (auto& connection : connections_) {
      send(connection, now());
      while (busy_ >= kOpening) poll(start + 4 * kGraceNs, -1);
    }
    while (busy_ > 0) poll(start + 4 * kGraceNs, -1);
    report(start);
  }

  /** Exchanges due at fixed times, on whichever connection is free. */
  void exchangeAt(double perSecond, int64_t duration) {
    latencies_.clear();
    std::vector<Connection*> free;
    for (auto& connection : connections_) free.push_back(&connection);
    const int64_t start = now();
    const auto total = static_cast<int64_t>(perSecond * static_cast<double>(duration) / kSecond);
    int64_t sent = 0;
    const auto dueOf = [&](int64_t index) { return start + static_cast<int64_t>(index * (kSecond / perSecond)); };
    while (sent < total || busy_ > 0) {
      while (sent < total && !free.empty() && dueOf(sent) <= now()) {
        send(*free.back(), dueOf(sent++));
        free.pop_back();
      }
      const bool canSend = sent < total && !free.empty();
      poll(start + duration + kGraceNs, canSend ? std::max<int64_t>(dueOf(sent) - now(), 0) : -1, &free);
    }
    report(start);
  }

 private:
  void open(Connection& connection) {
    connection.due = now();
    connection.fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    if (connection.fd < 0) failErrno("socket");
    const int on = 1;
    setsockopt(connection.fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
    if (connect(connection.fd, reinterpret_cast<sockaddr*>(&address_), sizeof address_) != 0 && errno != EINPROGRESS) {
      failErrno("connect");
    }
    epoll_event event{};
    event.events = EPOLLIN | EPOLLOUT | EPOLLET;
    event.data.ptr = &connection;
    if (epoll_ctl(epoll_, EPOLL_CTL_ADD, connection.fd, &event) != 0) failErrno("epoll_ctl");
    connection.state = State::kConnecting;
    busy_++;
  }

  void send(Connection& connection, int64_t due) {
    if (connection.state == State::kFree) busy_++;
    connection.due = due;
    connection.answer.clear();
    connection.state = State::kWaiting;
    const ssize_t sent = ::send(connection.fd, request_.data(), request_.size(), MSG_NOSIGNAL);
    if (sent != static_cast<ssize_t>(request_.size())) failErrno("send");
  }

  /** Waits for events, for `timeout` nanoseconds (-1: until one comes) and never beyond the deadline. */
  void poll(int64_t deadline, int64_t timeout, std::vector<Connection*>* freed = nullptr) {
    const int64_t left = deadline - now();
    if (left <= 0) fail(std::to_string(busy_) + " exchanges did not end in time");
    const int64_t wait = timeout < 0 ? left : std::min(timeout, left);
    const timespec time{wait / kSecond, wait % kSecond};
    epoll_event events[256];
    const int count = epoll_pwait2(epoll_, events, 256, &time, nullptr);
    if (count < 0 && errno != EINTR) failErrno("epoll_pwait2");
    for (int i = 0; i < count; i++) {
      auto& connection = *static_cast<Connection*>(events[i].data.ptr);
      const bool wasFree = connection.state == State::kFree;
      if (connection.state == State::kConnecting && (events[i].events & EPOLLOUT) != 0) send(connection, connection.due);
      if ((events[i].events & (EPOLLIN | EPOLLERR | EPOLLHUP)) != 0) receive(connection);
      if (freed != nullptr && !wasFree && connection.state == State::kFree) freed->push_back(&connection);
    }
  }

  void receive(Connection& connection) {
    char buffer[4096];
    for (;;) {
      const ssize_t got = recv(connection.fd, buffer, sizeof buffer, 0);
      if (got < 0 && errno == EAGAIN) return;
      if (got < 0) failErrno("recv");
      if (got == 0) return end(connection);
      if (connection.state != State::kWaiting) fail("bytes after the answer");
      connection.answer.append(buffer, static_cast<size_t>(got));
      if (isWhole(connection.answer)) finish(connection);
    }
  }

  /** Whether this is the answer, all of it. */
  bool isWhole(std::string_view answer) {
    if (answerBytes_ == 0) {
      // The first answer tells how long every one is: the backend's heads differ only in the time of day.
      const size_t head = answer.find("\r\n\r\n");
      if (head == std::string_view::npos) return false;
      answerBytes_ = head + 4 + kBody.size();
    }
    if (answer.size() < answerBytes_) return false;
    if (answer.size() > answerBytes_ || !answer.starts_with(kStatus) || !answer.ends_with(kBody)) {
      fail("wrong answer: " + std::string(answer));
    }
    return true;
  }

  void finish(Connection& connection) {
    latencies_.push_back(now() - connection.due);
    if (keep_) {
      connection.state = State::kFree;
      busy_--;
    } else {
      connection.state = State::kWaitingForEnd;
    }
  }

  void end(Connection& connection) {
    if (connection.state != State::kWaitingForEnd) fail("connection closed before the answer");
    close(connection.fd);
    connection.state = State::kClosed;
    busy_--;
  }

  void report(int64_t start) {
    if (latencies_.empty()) fail("no exchange was made");
    const double seconds = static_cast<double>(now() - start) / kSecond;
    std::sort(latencies_.begin(), latencies_.end());
    const auto quantile = [&](double share) {
      const auto index = static_cast<size_t>(share * static_cast<double>(latencies_.size()));
      return static_cast<double>(latencies_[std::min(index, latencies_.size() - 1)]) / 1e6;
    };
    std::printf("{\"exchanges\":%zu,\"seconds\":%.6f,\"p50\":%.4f,\"p99\":%.4f,\"p999\":%.4f}\n", latencies_.size(), seconds,
                quantile(0.5), quantile(0.99), quantile(0.999));
  }

  const bool keep_;
  std::vector<Connection> connections_;
  sockaddr_in address_{};
  std::string request_;
  int epoll_ = epoll_create1(EPOLL_CLOEXEC);
  size_t busy_ = 0;
  size_t answerBytes_ = 0;
  std::vector<int64_t> latencies_;
};

}  // namespace

int main(int argc, char** argv) {
  const std::string mode = argc > 1 ? argv[1] : "";
  const auto number = [&](int index) { return argc > index ? std::atof(argv[index]) : 0; };
  const auto port = static_cast<uint16_t>(number(2));
  const auto connections = static_cast<size_t>(number(3));
  if (port == 0 || connections == 0) fail("usage: client connect|rate|idle PORT CONNECTIONS ...");
  Client client(port, connections, mode != "connect");
  if (mode == "connect") {
    client.connectFor(static_cast<int64_t>(number(4) * kSecond));
  } else if (mode == "rate") {
    prctl(PR_SET_TIMERSLACK, 1);  // the default of 50 µs would be a latency of its own
    client.openAll();
    client.exchangeAt(number(4), static_cast<int64_t>(number(5) * kSecond));
  } else if (mode == "idle") {
    client.openAll();
    std::printf("open\n");
    std::fflush(stdout);
    while (std::getchar() != EOF) continue;
    client.exchangeOnAll();
  } else {
    fail("unknown mode " + mode);
  }
  return 0;
}
