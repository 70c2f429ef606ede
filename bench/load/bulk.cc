// Moves bytes as cheaply as the kernel can, so that the proxy between is what costs: the sender uses sendfile from
// memory, the receiver drops what arrived without copying it (MSG_TRUNC). Every byte is counted, and compared when asked.
//
//   bulk server                                     prints its port, serves until killed
//   bulk client PORT download|upload BYTES [check]  moves exactly BYTES, prints {"bytes":n,"seconds":x}
//
// The client opens with a Request. For a download the server answers with BYTES of the pattern and a FIN; for an upload it takes
// BYTES of it and answers with the count. Anything else than exactly that is an error: message, exit status 1.

#include <arpa/inet.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sys/mman.h>
#include <sys/sendfile.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <csignal>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <string>
#include <thread>
#include <vector>

namespace {

// A prime: data that slips by a page, a pipe or a buffer never lines up with itself again.
constexpr size_t kPatternBytes = 1048583;
// As iperf3 moves at a time by default with TCP, times four: large enough that system calls are no cost.
constexpr size_t kStepBytes = 512 * 1024;

// Nothing on loopback is silent for this long unless bytes were lost.
constexpr timeval kSilence{10, 0};

struct Request {
  uint64_t bytes;
  uint8_t upload;
  uint8_t check;
  uint8_t reserved[6];
};

[[noreturn]] void fail(const std::string& message) {
  std::fprintf(stderr, "%s\n", message.c_str());
  std::exit(1);
}

[[noreturn]] void failErrno(const char* call) { fail(std::string(call) + ": " + std::strerror(errno)); }

/** The same pseudo-random bytes in every process, as memory and as a file to send from. */
struct Pattern {
  std::vector<uint8_t> bytes = std::vector<uint8_t>(kPatternBytes);
  int file = memfd_create("pattern", 0);

  Pattern() {
    uint64_t state = 0x9E3779B97F4A7C15;  // xorshift64*: any seed but zero
    for (auto& byte : bytes) {
      state ^= state >> 12;
      state ^= state << 25;
      state ^= state >> 27;
      byte = static_cast<uint8_t>((state * 0x2545F4914F6CDD1D) >> 56);
    }
    if (file < 0 || write(file, bytes.data(), bytes.size()) != static_cast<ssize_t>(bytes.size())) {
      failErrno("memfd");
    }
  }
};

const Pattern& pattern() {
  static const Pattern instance;
  return instance;
}

/** Sends `total` bytes of the pattern. Returns false when the other side went away. */
bool sendPattern(int socket, uint64_t total) {
  for (uint64_t sent = 0; sent < total;) {
    off_t offset = static_cast<off_t>(sent % kPatternBytes);
    const auto step = std::min<uint64_t>({total - sent, kStepBytes, kPatternBytes - static_cast<size_t>(offset)});
    const ssize_t moved = sendfile(socket, pattern().file, &offset, step);
    if (moved <= 0) return false;
    sent += static_cast<uint64_t>(moved);
  }
  return true;
}

/** Takes up to `limit` bytes or until FIN; returns the count, or -1 - offset of the first wrong byte, or fails on a reset. */
int64_t takePattern(int socket, uint64_t limit, bool check) {
  std::vector<uint8_t> buffer(kStepBytes);
  uint64_t taken = 0;
  while (taken < limit) {
    const size_t step = std::min<uint64_t>(limit - taken, kStepBytes);
    const ssize_t moved = recv(socket, buffer.data(), step, check ? 0 : MSG_TRUNC);
    if (moved < 0) return -1 - static_cast<int64_t>(taken);
    if (moved == 0) break;
    for (size_t done = 0; check && done < static_cast<size_t>(moved);) {
      const size_t offset = (taken + done) % kPatternBytes;
      const size_t part = std::min(static_cast<size_t>(moved) - done, kPatternBytes - offset);
      if (std::memcmp(&buffer[done], &pattern().bytes[offset], part) != 0) return -1 - static_cast<int64_t>(taken + done);
      done += part;
    }
    taken += static_cast<uint64_t>(moved);
  }
  return static_cast<int64_t>(taken);
}

void limitSilence(int socket) { setsockopt(socket, SOL_SOCKET, SO_RCVTIMEO, &kSilence, sizeof kSilence); }

void serveOne(int socket) {
  limitSilence(socket);
  Request request;
  if (recv(socket, &request, sizeof request, MSG_WAITALL) == sizeof request) {
    if (request.upload != 0) {
      int64_t taken = takePattern(socket, request.bytes, request.check != 0);
      char extra;
      if (recv(socket, &extra, 1, MSG_DONTWAIT) > 0) taken++;
      if (send(socket, &taken, sizeof taken, MSG_NOSIGNAL) == sizeof taken) shutdown(socket, SHUT_WR);
    } else if (sendPattern(socket, request.bytes)) {
      shutdown(socket, SHUT_WR);
    }
    // The client closes first: a close with unread bytes here would reset what is still on its way.
    char end;
    while (recv(socket, &end, 1, 0) > 0) continue;
  }
  close(socket);
}

[[noreturn]] void serve() {
  const int listener = socket(AF_INET, SOCK_STREAM, 0);
  sockaddr_in address{};
  address.sin_family = AF_INET;
  address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  socklen_t length = sizeof address;
  if (bind(listener, reinterpret_cast<sockaddr*>(&address), length) != 0 || listen(listener, 64) != 0 ||
      getsockname(listener, reinterpret_cast<sockaddr*>(&address), &length) != 0) {
    failErrno("listen");
  }
  std::printf("%d\n", ntohs(address.sin_port));
  std::fflush(stdout);
  for (;;) {
    const int socket = accept(listener, nullptr, nullptr);
    if (socket < 0) failErrno("accept");
    std::thread(serveOne, socket).detach();
  }
}

void expectCount(int64_t count, uint64_t bytes) {
  if (count < 0) fail("wrong or lost bytes after " + std::to_string(-1 - count));
  if (count != static_cast<int64_t>(bytes)) {
    fail(std::to_string(count) + " bytes arrived instead of " + std::to_string(bytes));
  }
}

void runClient(uint16_t port, const Request& request) {
  const int connection = socket(AF_INET, SOCK_STREAM, 0);
  sockaddr_in address{};
  address.sin_family = AF_INET;
  address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  address.sin_port = htons(port);
  if (connect(connection, reinterpret_cast<sockaddr*>(&address), sizeof address) != 0) failErrno("connect");
  limitSilence(connection);
  pattern();  // made before the clock starts
  const auto start = std::chrono::steady_clock::now();
  if (send(connection, &request, sizeof request, MSG_NOSIGNAL) != sizeof request) failErrno("send");
  if (request.upload != 0) {
    if (!sendPattern(connection, request.bytes)) failErrno("upload");
    int64_t taken = 0;
    if (recv(connection, &taken, sizeof taken, MSG_WAITALL) != sizeof taken) fail("no answer to the upload");
    expectCount(taken, request.bytes);
  } else {
    // One byte more than there should be: a proxy that adds some is caught, and FIN is seen.
    expectCount(takePattern(connection, request.bytes + 1, request.check != 0), request.bytes);
  }
  const std::chrono::duration<double> took = std::chrono::steady_clock::now() - start;
  std::printf("{\"bytes\":%llu,\"seconds\":%.6f}\n", static_cast<unsigned long long>(request.bytes), took.count());
}

}  // namespace

int main(int argc, char** argv) {
  std::signal(SIGPIPE, SIG_IGN);
  const std::string mode = argc > 1 ? argv[1] : "";
  if (mode == "server") serve();
  if (mode != "client" || argc < 5) fail("usage: bulk server | bulk client PORT download|upload BYTES [check]");
  Request request{};
  request.bytes = std::strtoull(argv[4], nullptr, 10);
  request.upload = std::strcmp(argv[3], "upload") == 0;
  request.check = argc > 5;
  runClient(static_cast<uint16_t>(std::atoi(argv[2])), request);
  return 0;
}
